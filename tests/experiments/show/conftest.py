"""The tiles of the sheets that show draws."""

from __future__ import annotations

from typing import Any

import pytest

from kvtool.pictures import tiles
from kvtool.pictures.contact_sheet import ContactSheet, Tile
from tests.experiments.show.sheets import SIDE_PX


@pytest.fixture
def sheet_tiles(monkeypatch: pytest.MonkeyPatch) -> list[Tile]:
    """The tiles of every sheet that is made."""
    pieces: list[Tile] = []

    class Spy(ContactSheet):
        def __init__(self, tiles: Any, *arguments: Any) -> None:
            pieces.extend(tiles)
            super().__init__(tiles, *arguments)

    monkeypatch.setattr(tiles, "ContactSheet", Spy)
    monkeypatch.setattr(tiles, "LARGEST_PX", SIDE_PX)
    return pieces
