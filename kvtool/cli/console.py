"""Everything a person reads while a command runs: progress, notes and errors, all on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

log = logging.getLogger("kvtool")
HEARTBEAT_SECONDS = 60.0


def configure(*, quiet: bool, verbose: bool, log_file: Path | None) -> None:
    """Notes at INFO go to standard error (errors only with -q, debug with -v); everything to the log file."""
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter("%(message)s"))
    screen.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    log.addHandler(screen)
    if log_file is not None:
        file = logging.FileHandler(log_file)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(file)


def is_quiet() -> bool:
    return bool(log.handlers) and log.handlers[0].level >= logging.ERROR


class Advance(Protocol):
    """Say that `n` more units are done, with a short note on the state of things."""

    def __call__(self, n: int, note: str = "") -> None: ...


def silent(n: int, note: str = "") -> None:
    """An Advance that shows nothing."""


@contextmanager
def progress(what: str, total: int | None, *, done: int = 0, unit: str = "images") -> Iterator[Advance]:
    """Show how far a command is: a bar on a terminal, else a line a minute. Yields advance(n, note)."""
    if is_quiet():
        yield silent
    elif sys.stderr.isatty():
        yield from _bar(what, total, done, unit)
    else:
        yield from _lines(what, total, done, unit)


def _bar(what: str, total: int | None, done: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(escape(what), total=total, completed=done, rate="", note="")

        def advance(n: int, note: str = "") -> None:
            bars.update(task, advance=n)
            made = bars.tasks[0].completed - done
            rate = made / max(time.monotonic() - started, 1e-9)
            bars.update(task, rate=f"{rate:.1f}/s", note=escape(note))

        yield advance


def _lines(what: str, total: int | None, done: int, unit: str) -> Iterator[Advance]:
    started = last = time.monotonic()
    made = 0

    def advance(n: int, note: str = "") -> None:
        nonlocal made, last
        made += n
        now = time.monotonic()
        if now - last < HEARTBEAT_SECONDS:
            return
        last = now
        rate = made / (now - started)
        left = f", {(total - done - made) / rate:.0f} s left" if total and rate else ""
        of = f" of {total}" if total else ""
        log.info("%s: %d%s %s, %.1f/s%s%s", what, done + made, of, unit, rate, left, f", {note}" if note else "")

    yield advance


def human_bytes(n: float) -> str:
    """1234567 -> '1.2 MB' (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
