"""A tree of a user's own data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import datasets as builders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures with masks, pairs, videos, questions and captions: all that own:DIR reads."""
    return builders.own(tmp_path / "own")
