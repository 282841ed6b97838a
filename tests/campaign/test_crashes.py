"""Power cuts by computation, in short; and that record, models and checks are what they claim to
be.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaign import crashes
from tests.campaign.disk import Disk, Event, materialize
from tests.campaign.extraction import STEPS, tree
from tests.campaign.tally import Tally

pytestmark = pytest.mark.slow


def test_nothing_reported_is_lost_in_any_state(folder: Path) -> None:
    tallies = crashes.run(folder, seed=1, draws=1, limit=60)
    assert [tally.notes for tally in tallies] == [[], []]
    assert [tally.tried for tally in tallies] == [60, 60]


def test_the_record_leads_to_the_files_that_are_there(folder: Path) -> None:
    events, expected = crashes.record_extraction(folder / "recorded")
    disk = Disk("loose")
    for event in events:
        disk.apply(event)
    materialize(disk.tree(), folder / "replayed")
    assert tree(folder / "replayed" / crashes.STORE_NAME) == expected
    assert len(list((folder / "replayed").rglob("*"))) == len(
        list((folder / "recorded").rglob("*"))
    )
    assert tuple(disk.reported) == STEPS


@pytest.mark.parametrize("opened_by", ["create", "open"])
def test_an_fsync_left_out_is_seen(folder: Path, opened_by: str) -> None:
    """Were files (created), or folders (opened), not fsynced, some state would show it."""
    events, expected = crashes.record_extraction(folder / "recorded")
    numbers = {event.number for event in events if event.name == opened_by}
    forgetful = [event for event in events if event.name != "fsync" or event.number not in numbers]
    tally, rng = Tally("forgetful"), random.Random(0)
    crashes.try_states(
        crashes.draw(crashes.loose_states(forgetful, rng, 1), rng, 30), folder, expected, tally
    )
    assert tally.lost + tally.wrong > 0


def test_a_journal_keeps_names_in_order_and_tears_what_is_not_fsynced() -> None:
    disk = Disk("journal")
    for event in (
        Event("create", "a", number=1),
        Event("write", number=1, data=b"data"),
        Event("mkdir", "b"),
    ):
        disk.apply(event)
    states = list(disk.journal_states(random.Random(0)))
    names = [tuple(state) for state in states]
    assert set(names) == {(), ("a",), ("a", "b")}
    assert {b"", b"da", b"data", bytes(4)} < {state["a"] for state in states if state}
    disk.apply(Event("fsync", number=1))
    assert list(disk.journal_states(random.Random(0))) == [{"a": b"data", "b": {}}]


def test_posix_keeps_a_name_by_an_fsync_of_its_folder_alone() -> None:
    disk = Disk("loose")
    for event in (
        Event("create", "a", number=1),
        Event("write", number=1, data=b"data"),
        Event("fsync", number=1),
        Event("rename", "a", "c"),
    ):
        disk.apply(event)
    rng = random.Random(0)
    states = [disk.loose_state(rng) for _ in range(50)]
    assert {} in states
    assert {"a": b"data"} in states
    assert all(state in ({}, {"a": b"data"}, {"c": b"data"}) for state in states)
    disk.apply(Event("open", ".", number=2))
    disk.apply(Event("fsync", number=2))
    assert [disk.loose_state(rng) for _ in range(5)] == [{"c": b"data"}] * 5
