"""How long `kvtool --help` takes beyond starting Python."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from tests.bench.rows import Row, row

REPEATS = 11
ALLOWED_S = 0.3


def seconds(*arguments: str) -> float:
    """Median wall time of `python ARGUMENTS`."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return median(times)


def bench() -> list[Row]:
    """At most ALLOWED_S more than `python -c pass`: the target is that sum as a multiple of the
    peer.
    """
    peer, ours = seconds("-c", "pass"), seconds("-m", "kvtool", "--help")
    return [
        row(
            "kvtool --help against python -c pass",
            "s",
            ours,
            peer,
            (peer + ALLOWED_S) / peer,
            "lower",
        )
    ]


if __name__ == "__main__":
    for entry in bench():
        print(f"{entry['name']}: {entry['ratio']:.2f} (at most {entry['target']:.2f})")
