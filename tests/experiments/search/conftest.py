"""Bounds so low that a small run has an index of several lists and files."""

from __future__ import annotations

import pytest

from kvtool.features import patch_index
from tests.support.units import DIM


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inverted lists from 64 patches on, of which a search reads two, and several reads a run."""
    monkeypatch.setattr(patch_index, "PIECE_BYTES", 64 * 4 * DIM)
    monkeypatch.setattr(patch_index, "TRAINING_PER_LIST", 8)
    monkeypatch.setattr(patch_index, "PROBED", 2)
    monkeypatch.setattr("kvtool.features.patches.READ_BYTES", 40 * 4 * DIM)
