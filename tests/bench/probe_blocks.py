"""What the benchmarks of the probes' kernels share: the size of a layer, and a row of a rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.bench.rows import Row, row

HEADS, GRID, DIM = 4, (27, 27), 128
TOKENS = GRID[0] * GRID[1]


def rated(name: str, unit: str, work: float, ours_s: float, peer_s: float, target: float) -> Row:
    return row(name, unit, work / ours_s, work / peer_s, target)


def best_of(times: int, run: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
