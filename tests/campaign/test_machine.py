"""Histories of a store, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import machine

pytestmark = pytest.mark.slow


def test_histories_of_a_store(place: Path) -> None:
    [tally] = machine.run(place, examples=15, steps=20)
    assert tally.notes == []
    assert tally.tried >= 15
