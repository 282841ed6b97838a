"""The parts of the campaign, by name."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.campaign import crashes, faults, images, kills, machine
from tests.campaign.places import new_folder
from tests.campaign.tally import Tally

INPUTS = 12_000
"""Hostile inputs of all kinds together."""


@dataclass(frozen=True)
class Part:
    """What a part of the campaign does in a folder of its own, with a seed, and how long that
    takes, in seconds of one core of 2025.
    """

    run: Callable[[Path, int], list[Tally]]
    expected_s: float


def fuzz(folder: Path, seed: int) -> list[Tally]:
    """Hostile inputs, in a process with an environment of its own; a run out of memory counts as a
    traceback.
    """
    rows = folder / "fuzz.json"
    command = ("--seed", str(seed), "--out", str(rows), "--count", str(INPUTS))
    subprocess.run([sys.executable, "-m", "tests.fuzz", *command], stdout=sys.stderr, check=False)
    tallies = []
    for row in json.loads(rows.read_text()):
        counts = {field: row[field] for field in ("tried", "lost", "doubled", "wrong", "hangs")}
        tally = Tally(row["name"], tracebacks=row["tracebacks"] + row["memory"], **counts)
        if faulty := tally.lost + tally.doubled + tally.wrong + tally.tracebacks + tally.hangs:
            tally.notes.append(f"{tally.name}: {faulty} faults, listed in build/fuzz/faults.json")
        tallies.append(tally)
    return tallies


PARTS = {
    "faults": Part(lambda folder, _: faults.run_writing(folder), 700),
    "fuzz": Part(fuzz, 450),
    "crashes": Part(crashes.run, 140),
    "machine": Part(lambda folder, _: machine.run(folder, examples=300, steps=40), 90),
    "kills": Part(lambda folder, seed: kills.run(folder, seed, kills=2000), 90),
    "reads": Part(lambda folder, _: faults.run_reading(folder), 80),
    "images": Part(lambda folder, seed: images.run(folder, seed, cuts=50), 20),
}
"""By name; the long ones first, so that the processes end at about the same time."""


def run_part(name: str, seed: int, parent: Path | None) -> tuple[list[Tally], float]:
    """Run one part; what it found, and the seconds it took."""
    started = time.monotonic()
    with new_folder(parent) as folder:
        try:
            tallies = PARTS[name].run(folder, seed)
        except Exception:  # noqa: BLE001  the other parts are still to be tried
            tallies = [Tally(name)]
            tallies[0].count("tracebacks", f"{name}: {traceback.format_exc()}")
    return tallies, time.monotonic() - started
