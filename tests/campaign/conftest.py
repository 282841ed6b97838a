"""Fixtures of the campaign's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.places import new_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A new folder, in memory where that can be."""
    with new_folder() as folder:
        yield folder
