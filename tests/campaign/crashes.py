"""Power cuts by computation: every state that a disk may be in after each call of a recorded extraction."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from tests.campaign.disk import Disk, Event, Tree, materialize
from tests.campaign.extraction import check_after_cut, extract, tree
from tests.campaign.recording import record
from tests.campaign.tally import Tally

State = tuple[Tree, tuple[str, ...], str]
"""What is on the disk, what was reported before the cut, and which cut it was."""
Check = Callable[[Path, Collection[str], str], object]


def journal_states(events: Sequence[Event], rng: random.Random) -> Iterator[State]:
    """All states of the journal model, after each event, each once."""
    disk, seen = Disk("journal"), set[bytes]()
    for number, event in enumerate(events):
        disk.apply(event)
        for state in disk.journal_states(rng):
            if _is_new(state, disk.reported, seen):
                yield state, tuple(disk.reported), f"journal, after call {number} ({event.name} {event.path})"


def loose_states(events: Sequence[Event], rng: random.Random, draws: int) -> Iterator[State]:
    """Some states of the loose model, `draws` after each event, each once."""
    disk, seen = Disk("loose"), set[bytes]()
    for number, event in enumerate(events):
        disk.apply(event)
        for _ in range(draws):
            state = disk.loose_state(rng)
            if _is_new(state, disk.reported, seen):
                yield state, tuple(disk.reported), f"loose, after call {number} ({event.name} {event.path})"


def _is_new(state: Tree, reported: Sequence[str], seen: set[bytes]) -> bool:
    digest = hashlib.sha256(repr((state, reported)).encode()).digest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


def try_states(states: Iterator[State], folder: Path, check: Check) -> None:
    """Write each state to a folder of its own and hand it to `check`."""
    for number, (state, reported, what) in enumerate(states):
        place = folder / f"state{number}"
        materialize(state, place)
        check(place, reported, what)
        shutil.rmtree(place)


def run(folder: Path, seed: int, draws: int = 20, limit: int | None = None) -> list[Tally]:
    """Both models over the small extraction. limit: this many states of each, drawn, instead of all."""
    rng = random.Random(seed)
    extract(folder / "whole" / "small.kv")
    whole = tree(folder / "whole" / "small.kv")
    (folder / "recorded").mkdir()
    events = record(folder / "recorded", lambda report: extract(folder / "recorded" / "small.kv", report))
    tallies = []
    for name, states in (
        ("power: every state of a journal", journal_states(events, rng)),
        ("power: states that POSIX allows", loose_states(events, rng, draws)),
    ):
        tally = Tally(name)
        chosen = states if limit is None else iter(_drawn(list(states), rng, limit))
        try_states(chosen, folder, lambda place, reported, what: _check(place, reported, what, whole, tally))
        tallies.append(tally)
    return tallies


def _check(place: Path, reported: Collection[str], what: str, whole: dict[str, bytes], tally: Tally) -> None:
    check_after_cut(place / "small.kv", reported, whole, tally, what)


def _drawn(states: list[State], rng: random.Random, limit: int) -> list[State]:
    return states if len(states) <= limit else rng.sample(states, limit)
