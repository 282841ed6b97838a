"""Power cuts of a mounted image, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import images

pytestmark = pytest.mark.slow


@pytest.mark.skipif(bool(images.missing()), reason=images.missing())
def test_nothing_reported_before_a_cut_is_lost(folder: Path) -> None:
    [tally] = images.run(folder, seed=1, cuts=5)
    assert tally.notes == []
    assert tally.tried == 5
