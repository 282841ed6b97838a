"""Pictures that an extraction has read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny import noise


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Six pictures."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(6):
        noise(40 + i, 60 - i, i).save(folder / f"{i}.png")
    return folder
