"""Histories of a store, in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign import machine

pytestmark = pytest.mark.slow


def test_histories_of_a_store(folder: Path) -> None:
    [tally] = machine.run(folder, examples=15, steps=20)
    assert tally.notes == []
    assert tally.tried >= 15
