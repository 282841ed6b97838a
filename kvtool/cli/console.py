"""Everything a person reads while a command runs: progress, notes and errors, all on standard
error.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Protocol, TextIO

log = logging.getLogger("kvtool")
HEARTBEAT_SECONDS = 60.0


class Screen(logging.StreamHandler[TextIO]):
    """Standard error as it is now: while a bar is shown, rich stands there and keeps lines and bar
    apart.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Return standard error as it is now."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Standard error that cannot be written is nobody's to mend from here."""


class LogFile(logging.FileHandler):
    """The file of --log-file. Where it cannot be written any more, the screen says so, once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  logging's name
        """Go on without the log file once it cannot be written, and say so."""
        log.removeHandler(self)
        log.warning(
            "--log-file %s: %s; notes go on without it", self.baseFilename, sys.exc_info()[1]
        )


class Printable(logging.Formatter):
    """Names of files may hold anything; what a terminal would obey is escaped, line by line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text with what cannot be printed escaped."""
        lines = super().format(record).split("\n")
        return "\n".join(
            "".join(
                character if character.isprintable() or character == "\t" else repr(character)[1:-1]
                for character in line
            )
            for line in lines
        )


def configure(*, quiet: bool, verbose: bool, log_file: Path | None) -> None:
    """Notes at INFO go to standard error (errors only with -q, debug with -v); everything to the
    log file.
    """
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    screen = Screen()
    screen.setFormatter(Printable("%(message)s"))
    screen.setLevel(logging.INFO)
    log.addHandler(screen)
    set_level(quiet=quiet, verbose=verbose)
    if log_file is not None:
        log.addHandler(LogFile(log_file))


def set_level(*, quiet: bool = False, verbose: bool = False) -> None:
    """Let standard error show errors only, or all notes; where both are asked for, errors only."""
    if quiet:
        log.handlers[0].setLevel(logging.ERROR)
    elif verbose and not is_quiet():
        log.handlers[0].setLevel(logging.DEBUG)


def is_quiet() -> bool:
    """Return whether standard error shows errors only."""
    return bool(log.handlers) and log.handlers[0].level >= logging.ERROR


class Advance(Protocol):
    """Say that `n` more units are done, with a short note on the state of things; `total`, where it
    becomes known.
    """

    def __call__(self, n: int, note: str = "", total: int | None = None) -> None: ...


def silent(n: int, note: str = "", total: int | None = None) -> None:
    """An Advance that shows nothing."""


@dataclass
class Tally:
    """How much is done since the start, and what can be said of the rest."""

    total: int | None
    done: int
    advanced: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)

    def add(self, n: int, note: str, total: int | None) -> None:
        """Count `n` more units; `total` replaces the number of all units where it is known."""
        self.advanced += n
        self.note = note
        self.total = total or self.total

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the start, never zero."""
        return max(time.monotonic() - self.started, 1e-9)

    def rate(self) -> str:
        """Of this command alone, in a unit that leaves a digit before the point."""
        per_second = self.advanced / self.elapsed_s
        for seconds, unit in ((1, "s"), (60, "min")):
            if per_second * seconds >= 1:
                return f"{per_second * seconds:.1f}/{unit}"
        return f"{per_second * 3600:.1f}/h"

    def line(self, what: str, unit: str) -> str:
        """All of it in words."""
        if not self.advanced:
            parts = [f"{what}: at work for {_clock(self.elapsed_s)}"]
        else:
            total = f" of {self.total}" if self.total else ""
            parts = [f"{what}: {self.done + self.advanced}{total} {unit}", self.rate()]
            if self.total:
                remaining = self.total - self.done - self.advanced
                parts.append(f"{_clock(remaining * self.elapsed_s / self.advanced)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def progress(
    what: str, total: int | None, *, done: int = 0, unit: str = "images"
) -> Iterator[Advance]:
    """Show how far a command is: a bar on a terminal, else a line a minute.

    Yields advance(n, note, total).
    """
    tally = Tally(total, done)
    if is_quiet():
        yield silent
    elif sys.stderr.isatty():
        yield from _bar(what, tally, unit)
    else:
        yield from _lines(what, tally, unit)


def _bar(what: str, tally: Tally, unit: str) -> Iterator[Advance]:
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
    # Data goes to standard output as it is; notes go through rich, which puts them above the bar.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
    ) as bars:
        task = bars.add_task(
            escape(what), total=tally.total, completed=tally.done, rate="", note=""
        )

        def advance(n: int, note: str = "", total: int | None = None) -> None:
            tally.add(n, note, total)
            rate = tally.rate() if tally.advanced else ""
            bars.update(task, advance=n, total=tally.total, rate=rate, note=escape(note))

        yield advance


def _lines(what: str, tally: Tally, unit: str) -> Iterator[Advance]:
    """Whether anything advances or not: a line a minute says that the command lives."""
    ended = Event()

    def beat() -> None:
        """Write a line a minute until the command ends."""
        while not ended.wait(HEARTBEAT_SECONDS):
            log.info("%s", tally.line(what, unit))

    def advance(n: int, note: str = "", total: int | None = None) -> None:
        tally.add(n, note, total)

    thread = Thread(target=beat, name="kvtool-heartbeat", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        ended.set()
        thread.join()
