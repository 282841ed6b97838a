"""The campaign at length: `python -m tests.campaign [part ...]`, or `make campaign`.

Says beforehand how long it will take, prints what was wrong as parts end, and writes
build/campaign.json after each of them: a list of {name, tried, lost, doubled, wrong, tracebacks,
hangs}. Parts that are named alone replace their lines of that file. Ends with 1 where any of the
last five figures is not 0.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.campaign.images import missing
from tests.campaign.parts import PARTS, run_part
from tests.campaign.tally import Tally
from tests.support.figures import write_rows

SHOWN_NOTES = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--folder", type=Path, help="where stores are written; by default in memory"
    )
    parser.add_argument("--output", type=Path, default=Path("build/campaign.json"))
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"no part {min(unknown)}: there are {', '.join(PARTS)}")
    names = [name for name in PARTS if name in arguments.parts or not arguments.parts]
    if not arguments.parts:
        arguments.output.unlink(missing_ok=True)
    print(f"{', '.join(names)}: {_expectation(names, arguments.processes)}", file=sys.stderr)
    return int(not run_parts(names, arguments))


def _expectation(names: Collection[str], processes: int) -> str:
    """How long these parts take together."""
    seconds = [PARTS[name].expected_s for name in names]
    total_s = max(*seconds, sum(seconds) / processes) if len(seconds) > 1 else seconds[0]
    return f"about {total_s / 60:.0f} min on {processes} free cores"


def run_parts(names: Collection[str], arguments: argparse.Namespace) -> bool:
    """Run parts, several at once, and write the figures of each as it ends; whether all were
    clean.
    """
    clean = True
    with ProcessPoolExecutor(
        arguments.processes, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as executor:
        futures = {
            executor.submit(run_part, name, arguments.seed, arguments.folder): name
            for name in names
        }
        for future in as_completed(futures):
            tallies, seconds = future.result()
            show(futures[future], tallies, seconds)
            write_rows(arguments.output, [tally.to_json() for tally in tallies])
            clean = clean and all(tally.clean for tally in tallies)
    return clean


def show(name: str, tallies: list[Tally], seconds: float) -> None:
    """Print what a part found, and a line for each tally."""
    if not tallies:
        print(f"{name}: left out: {missing()}", file=sys.stderr)
    for tally in tallies:
        for note in tally.notes[:SHOWN_NOTES]:
            print(note, file=sys.stderr)
        if len(tally.notes) > SHOWN_NOTES:
            print(f"{tally.name}: {len(tally.notes) - SHOWN_NOTES} more", file=sys.stderr)
        counts = ", ".join(
            f"{value} {key}" for key, value in tally.to_json().items() if key != "name"
        )
        print(f"{tally.name}: {counts} ({seconds:.0f} s)", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
