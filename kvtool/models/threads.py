"""How torch's threads wait for their next operation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_SHARED_NUMBERS = 1 << 18
"""More than torch lets a single thread add."""


@contextmanager
def resting_threads() -> Iterator[None]:
    """Let torch's threads rest between operations while other threads have work for the cores.

    Torch's OpenMP (libgomp) lets the threads of a team spin for milliseconds before they rest, but
    hundreds of times shorter while more threads stand in teams than there are cores. So a second
    team stands by, without work. With one thread there is no team, and nothing to do.
    """
    ends = threading.Event()

    def stand_by() -> None:
        """Form a team, which lives as long as this thread."""
        torch.zeros(_SHARED_NUMBERS).add_(1)
        ends.wait()

    # The team is formed only where torch has one: a single thread never spins.
    thread = threading.Thread(target=stand_by, name="kvtool resting threads", daemon=True)
    if torch.get_num_threads() > 1:
        thread.start()
    try:
        yield
    finally:
        ends.set()
        if thread.is_alive():
            thread.join()
