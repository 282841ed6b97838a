"""The campaign at length: `python -m tests.campaign [part ...]`, or `make campaign`.

Prints what was wrong as it is seen, and writes build/campaign.json: a list of {name, tried, lost,
doubled, wrong, tracebacks, hangs}. Ends with 1 where any of the last five is not 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.campaign import crashes, faults, images, kills, machine
from tests.campaign.places import new_folder
from tests.campaign.tally import Tally

FUZZ_S = 1500
"""Each kind of hostile input ends when its share of this time is over."""
PARTS: dict[str, Callable[[Path, int], list[Tally]]] = {
    "crashes": lambda folder, seed: crashes.run(folder, seed),
    "images": lambda folder, seed: images.run(folder, seed, cuts=50),
    "machine": lambda folder, _: machine.run(folder, examples=300, steps=40),
    "kills": lambda folder, seed: kills.run(folder, seed, kills=2000),
    "fuzz": lambda folder, seed: fuzz(folder, seed),
    "faults": lambda folder, _: faults.run(folder),
}
"""What a part of the campaign does in a folder of its own, with a seed."""


def fuzz(folder: Path, seed: int) -> list[Tally]:
    """Hostile inputs, in a process with an environment of its own; a run out of memory counts as a
    traceback.
    """
    rows = folder / "fuzz.json"
    command = ("--seed", str(seed), "--out", str(rows), "--seconds", str(FUZZ_S))
    subprocess.run([sys.executable, "-m", "tests.fuzz", *command], stdout=sys.stderr, check=False)
    tallies = []
    for row in json.loads(rows.read_text()):
        counts = {field: row[field] for field in ("tried", "lost", "doubled", "wrong", "hangs")}
        tally = Tally(row["name"], tracebacks=row["tracebacks"] + row["memory"], **counts)
        if faulty := tally.lost + tally.doubled + tally.wrong + tally.tracebacks + tally.hangs:
            tally.notes.append(f"{tally.name}: {faulty} faults, listed in build/fuzz/faults.json")
        tallies.append(tally)
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, help="where stores are written; by default in memory"
    )
    parser.add_argument("--output", type=Path, default=Path("build/campaign.json"))
    arguments = parser.parse_args()
    tallies: list[Tally] = []
    for name in arguments.parts or PARTS:
        tallies += run_part(name, arguments.seed, arguments.folder)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(
            json.dumps([tally.to_json() for tally in tallies], indent=1) + "\n"
        )
    return 0 if all(tally.clean for tally in tallies) else 1


def run_part(name: str, seed: int, parent: Path | None) -> list[Tally]:
    """Run one part and print what it found, a line for each tally."""
    started = time.monotonic()
    with new_folder(parent) as folder:
        try:
            tallies = PARTS[name](folder, seed)
        except Exception:  # noqa: BLE001  the other parts are still to be tried
            tallies = [Tally(name)]
            tallies[0].count("tracebacks", f"{name}: {traceback.format_exc()}")
    if not tallies:
        print(f"{name}: left out: {images.missing()}", file=sys.stderr)
    for tally in tallies:
        for note in tally.notes:
            print(note, file=sys.stderr)
        counts = ", ".join(
            f"{value} {key}" for key, value in tally.to_json().items() if key != "name"
        )
        print(f"{tally.name}: {counts} ({time.monotonic() - started:.0f} s)", file=sys.stderr)
    return tallies


if __name__ == "__main__":
    sys.exit(main())
