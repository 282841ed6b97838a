"""Four writers that are killed, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import kills

pytestmark = pytest.mark.slow


def test_nothing_is_lost_doubled_or_wrong(folder: Path) -> None:
    [tally] = kills.run(folder, seed=1, kills=24)
    assert tally.notes == []
    assert tally.tried >= 24
