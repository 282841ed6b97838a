"""Power cuts by computation: every state that a disk may be in after each call of a recorded
extraction.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.campaign.checks import check_after_cut
from tests.campaign.disk import Disk, Event, Tree, materialize
from tests.campaign.extraction import extract, tree
from tests.campaign.recording import record
from tests.campaign.tally import Tally

State = tuple[Tree, tuple[str, ...], str]
"""What is on the disk, what was reported before the cut, and which cut it was."""
STORE_NAME = "small.kv"


def journal_states(events: Sequence[Event], rng: random.Random) -> Iterator[State]:
    """All states of the journal model, after each event, each once."""
    disk, seen = Disk("journal"), set[bytes]()
    for number, event in enumerate(events):
        disk.apply(event)
        for state in disk.journal_states(rng):
            if _is_new(state, disk.reported, seen):
                yield (
                    state,
                    tuple(disk.reported),
                    f"journal, after call {number} ({event.name} {event.path})",
                )


def loose_states(events: Sequence[Event], rng: random.Random, draws: int) -> Iterator[State]:
    """Some states of the loose model, `draws` after each event, each once."""
    disk, seen = Disk("loose"), set[bytes]()
    for number, event in enumerate(events):
        disk.apply(event)
        for _ in range(draws):
            state = disk.loose_state(rng)
            if _is_new(state, disk.reported, seen):
                yield (
                    state,
                    tuple(disk.reported),
                    f"loose, after call {number} ({event.name} {event.path})",
                )


def _is_new(state: Tree, reported: Sequence[str], seen: set[bytes]) -> bool:
    digest = hashlib.sha256(repr((state, reported)).encode()).digest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


def try_states(
    states: Iterable[State], folder: Path, expected: dict[str, bytes], tally: Tally
) -> None:
    """Write each state to a folder of its own, check what it holds, and let the extraction go on
    there.
    """
    for number, (state, reported, what) in enumerate(states):
        state_folder = folder / f"state{number}"
        materialize(state, state_folder)
        check_after_cut(state_folder / STORE_NAME, reported, expected, tally, what)
        shutil.rmtree(state_folder)


def record_extraction(folder: Path) -> tuple[list[Event], dict[str, bytes]]:
    """The events of an extraction into a new folder, and the files it left."""
    folder.mkdir()
    events = record(folder, lambda report: extract(folder / STORE_NAME, report))
    return events, tree(folder / STORE_NAME)


def run(folder: Path, seed: int, draws: int = 20, limit: int | None = None) -> list[Tally]:
    """Both models over the small extraction.

    limit: this many states of each, drawn, instead of all.
    """
    rng = random.Random(seed)
    events, expected = record_extraction(folder / "recorded")
    tallies = [Tally("power: every state of a journal"), Tally("power: states that POSIX allows")]
    for tally, states in zip(
        tallies, (journal_states(events, rng), loose_states(events, rng, draws)), strict=True
    ):
        try_states(states if limit is None else draw(states, rng, limit), folder, expected, tally)
    return tallies


def draw(states: Iterable[State], rng: random.Random, limit: int) -> list[State]:
    """At most `limit` of the states."""
    everything = list(states)
    return rng.sample(everything, min(limit, len(everything)))
