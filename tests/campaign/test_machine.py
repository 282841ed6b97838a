"""Histories of a store, in short."""

from __future__ import annotations

from pathlib import Path

from tests.campaign import machine


def test_histories_of_a_store(place: Path) -> None:
    [tally] = machine.run(place, examples=15, steps=20)
    assert tally.notes == []
    assert tally.tried >= 15
