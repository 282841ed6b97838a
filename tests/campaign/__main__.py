"""The campaign at length: `python -m tests.campaign [part ...]`, or `make campaign`.

Prints what was wrong as it is seen, and writes build/campaign.json: a list of {name, tried, lost, doubled, wrong,
tracebacks, hangs}. Ends with 1 where any of the last five is not 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.campaign import crashes, faults, images, kills, machine
from tests.campaign.places import new_folder
from tests.campaign.tally import Tally

PARTS: dict[str, Callable[[Path, int], list[Tally]]] = {
    "crashes": lambda folder, seed: crashes.run(folder, seed),
    "images": lambda folder, seed: images.run(folder, seed, cuts=50),
    "faults": lambda folder, _: faults.run(folder),
    "machine": lambda folder, _: machine.run(folder, examples=300, steps=40),
    "kills": lambda folder, seed: kills.run(folder, seed, kills=2000),
}
"""What a part of the campaign does in a folder of its own, with a seed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where stores are written; by default in memory")
    parser.add_argument("--output", type=Path, default=Path("build/campaign.json"))
    arguments = parser.parse_args()
    tallies: list[Tally] = []
    for name in arguments.parts or PARTS:
        tallies += run_part(name, arguments.seed, arguments.folder)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps([tally.to_json() for tally in tallies], indent=1) + "\n")
    return 0 if all(tally.clean for tally in tallies) else 1


def run_part(name: str, seed: int, parent: Path | None) -> list[Tally]:
    """Run one part and print what it found, a line for each tally."""
    started = time.monotonic()
    with new_folder(parent) as folder:
        tallies = PARTS[name](folder, seed)
    if not tallies:
        print(f"{name}: left out: {images.missing()}", file=sys.stderr)
    for tally in tallies:
        for note in tally.notes:
            print(note, file=sys.stderr)
        counts = ", ".join(f"{value} {key}" for key, value in tally.to_json().items() if key != "name")
        print(f"{tally.name}: {counts} ({time.monotonic() - started:.0f} s)", file=sys.stderr)
    return tallies


if __name__ == "__main__":
    sys.exit(main())
