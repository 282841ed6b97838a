"""Everything a person reads while a command runs: progress, notes and errors, all on standard
error.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TextIO

from kvtool.progress import Advance, ProgressTally, silent, terminal_bar

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
        # Read when transformers is imported, which is later.
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    elif verbose and not is_quiet():
        log.handlers[0].setLevel(logging.DEBUG)


def is_quiet() -> bool:
    """Return whether standard error shows errors only."""
    return bool(log.handlers) and log.handlers[0].level >= logging.ERROR


def is_verbose() -> bool:
    """Return whether standard error shows all notes."""
    return bool(log.handlers) and log.handlers[0].level <= logging.DEBUG


@contextmanager
def progress(
    what: str, total: int | None, *, done: int = 0, unit: str = "images"
) -> Iterator[Advance]:
    """Show how far a command is: a bar on a terminal, else a line a minute.

    Yields advance(n, note, total).
    """
    tally = ProgressTally(total, done)
    if is_quiet():
        yield silent
    elif sys.stderr.isatty():
        yield from terminal_bar(what, tally, unit)
    else:
        yield from _lines(what, tally, unit)


def _lines(what: str, tally: ProgressTally, unit: str) -> Iterator[Advance]:
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
