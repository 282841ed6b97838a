"""Work for a CPU's threads, in each of which torch computes alone.

Threads that share each small operation wait for one another at its end, for a scheduler's whole
turn where the machine has other work; and they spin for milliseconds after each, on the cores that
threads with work need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@contextmanager
def lone_threads(device: torch.device) -> Iterator[int]:
    """Let torch use a single thread for each operation on a CPU, and yield how many it would use;
    1 on other devices.
    """
    # The setting is global: it is put back even where the work fails.
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_threads(
    run: Callable[[Item], Outcome], items: Sequence[Item], threads: int
) -> list[Outcome]:
    """Return what a function gives for every item, each computed by a thread alone."""
    if threads == 1:
        return list(map(run, items))
    return list(_pool(threads).map(run, items))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that stay: new ones would ask for their buffers anew at each call, which took
    a tenth of label propagation's time."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


# A process that was forked off has none of the threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
