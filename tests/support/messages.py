"""What kvtool tells, as a list of lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Messages(logging.Handler):
    """Adds each message to a list."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def messages(level: int = logging.INFO) -> Iterator[list[str]]:
    """Yield the list of what is told from now on, at a level or above."""
    log, handler = logging.getLogger("kvtool"), _Messages()
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)
    try:
        yield handler.lines
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
