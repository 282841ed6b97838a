"""The sections of the GPU's benchmark: independent of each other, each with a bound on its time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

from tests.bench.gpu import extraction, kernels, matching, questions
from tests.bench.gpu.machine import Bench
from tests.bench.rows import Row


class Record(TypedDict):
    """What a section gave: its rows, or the error that ended it."""

    name: str
    seconds: float
    rows: list[Row]
    error: str | None


@dataclass(frozen=True)
class Section:
    """Some rows, and the most seconds they may take."""

    limit_s: float
    rows: Callable[[Bench], list[Row]]


SECTIONS = {
    "prefill-7b": Section(70, partial(extraction.prefill, size="7b")),
    "memory-7b": Section(50, partial(extraction.into_memory, size="7b")),
    "disk-7b": Section(60, partial(extraction.onto_disk, size="7b")),
    "idle-7b": Section(40, partial(extraction.idle, size="7b")),
    "probes": Section(75, kernels.probes),
    "faiss": Section(40, matching.faiss),
    "knockout": Section(50, questions.knockout),
    "attend": Section(30, questions.attend),
    "prefill-0.5b": Section(25, partial(extraction.prefill, size="0.5b")),
    "memory-0.5b": Section(20, partial(extraction.into_memory, size="0.5b")),
    "disk-0.5b": Section(20, partial(extraction.onto_disk, size="0.5b")),
}
"""In the order in which they run. What a section needs (a model, its rate) is made when the first
asks for it."""


def run_section(name: str, bench: Bench, left_s: float) -> Record:
    """Run a section within its time and what is left of all; whatever ends it is its error."""
    section = SECTIONS[name]
    started = time.perf_counter()
    rows: list[Row] = []
    error = None
    try:
        with time_limit(min(section.limit_s, left_s)):
            rows = section.rows(bench)
    except Exception as failure:  # noqa: BLE001  the other sections go on
        lines = str(failure).splitlines() or [""]
        error = f"{type(failure).__name__}: {lines[0]}"
    seconds = time.perf_counter() - started
    return Record(name=name, seconds=seconds, rows=rows, error=error)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this, the main thread, once the time is over."""

    def expire(*_args: Any) -> None:
        """End what runs."""
        raise TimeoutError(f"more than {seconds:.0f} s")

    if seconds <= 0:
        raise TimeoutError("no time left")
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
