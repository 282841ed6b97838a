"""How far a long call is: what it tells as it goes, and the bar that shows it, on a terminal or in
a notebook.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html import escape
from typing import Any, Protocol

from kvtool.display import without_middle

Progress = Callable[..., None]
"""Called with how many more units are done, a note, and, once it is known, the number of all."""

NOTEBOOK_SHELL = "ZMQInteractiveShell"
"""The class of IPython's shell in a notebook; the one on a terminal has another name."""
NARROW = 100
"""Columns of a terminal below which a bar has neither the time that has passed nor a note."""
LEAST_BAR = 10
LEAST_NAME = 8
RATE_AND_CLOCK = 19
"""Characters of rate, time left and the spaces between all."""
NOTE = 30
"""Characters of the time that has passed and a note."""
REDRAW_S = 0.2
"""The least time between two drawings of a notebook's bar: each is a message to the browser."""


class Advance(Protocol):
    """Say that `n` more units are done, with a short note on the state of things; `total`, where it
    becomes known.
    """

    def __call__(self, n: int, note: str = "", total: int | None = None) -> None: ...


def silent(n: int, note: str = "", total: int | None = None) -> None:
    """An Advance that shows nothing."""


def called(progress: Progress | bool | None) -> Progress:
    """Return what a public function calls: a bar was put in place of True by kvtool.bounds.checked,
    and nothing is shown where nothing was asked for."""
    return progress if callable(progress) else silent


@dataclass
class ProgressTally:
    """How much is done since the start, and what can be said of the rest."""

    total: int | None
    done: int = 0
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
        """Return the rate of this call alone, in a unit that leaves a digit before the point."""
        per_second = self.advanced / self.elapsed_s
        for seconds, unit in ((1, "s"), (60, "min")):
            if per_second * seconds >= 1:
                return f"{per_second * seconds:.1f}/{unit}"
        return f"{per_second * 3600:.1f}/h"

    def line(self, what: str, unit: str) -> str:
        """Return all of it in words."""
        if not self.advanced:
            parts = [f"{what}: at work for {clock(self.elapsed_s)}"]
        else:
            total = f" of {self.total}" if self.total else ""
            parts = [f"{what}: {self.done + self.advanced}{total} {unit}".rstrip(), self.rate()]
            if self.total:
                remaining = self.total - self.done - self.advanced
                parts.append(f"{clock(remaining * self.elapsed_s / self.advanced)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def bar(what: str) -> Iterator[Advance]:
    """Show a call's progress, for `progress=True`: in a notebook below the cell, else on standard
    error where that is a terminal."""
    tally = ProgressTally(None)
    if in_notebook():
        yield from notebook_bar(what, tally)
    elif sys.stderr.isatty():
        yield from terminal_bar(what, tally, "")
    else:
        yield silent


def terminal_bar(what: str, tally: ProgressTally, unit: str) -> Iterator[Advance]:
    """Draw a bar on standard error while the caller works; data go to standard output as they are,
    notes above the bar."""
    from rich.console import Console
    from rich.markup import escape as escape_markup
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    screen = Console(stderr=True)
    is_narrow = screen.width < NARROW
    columns = [
        TextColumn("{task.description}"),
        BarColumn(LEAST_BAR),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    ]
    if not is_narrow:
        columns += [TimeElapsedColumn(), TextColumn("{task.fields[note]}")]
    # What a person waits for, count, rate and time left, keeps its place; the name gives way.
    counts = 2 * len(str(tally.total or "")) + len(unit) + LEAST_BAR + RATE_AND_CLOCK
    counts += 0 if is_narrow else NOTE
    what = without_middle(what, max(LEAST_NAME, screen.width - counts))
    with Progress(*columns, console=screen, transient=True, redirect_stdout=False) as bars:
        name = escape_markup(what)
        task = bars.add_task(name, total=tally.total, completed=tally.done, rate="", note="")

        def advance(n: int, note: str = "", total: int | None = None) -> None:
            tally.add(n, note, total)
            rate = tally.rate() if tally.advanced else ""
            bars.update(task, advance=n, total=tally.total, rate=rate, note=escape_markup(note))

        yield advance


def in_notebook() -> bool:
    """Return whether a notebook's kernel runs this process."""
    ipython: Any = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return type(shell).__name__ == NOTEBOOK_SHELL


def notebook_bar(what: str, tally: ProgressTally) -> Iterator[Advance]:
    """Draw a bar below a notebook's cell while the caller works. It is plain HTML, which needs no
    widgets, and stays as it is at the end."""
    ipython: Any = sys.modules["IPython"]
    display, html = ipython.display.display, ipython.display.HTML
    handle = display(html(bar_html(what, tally)), display_id=True)
    drawn_s = time.monotonic()

    def advance(n: int, note: str = "", total: int | None = None) -> None:
        nonlocal drawn_s
        tally.add(n, note, total)
        if time.monotonic() - drawn_s >= REDRAW_S:
            drawn_s = time.monotonic()
            handle.update(html(bar_html(what, tally)))

    try:
        yield advance
    finally:
        handle.update(html(bar_html(what, tally)))


def bar_html(what: str, tally: ProgressTally) -> str:
    """Return a bar and its words; without a total the bar only says that something moves."""
    done = tally.done + tally.advanced
    extent = f' value="{min(done, tally.total)}" max="{tally.total}"' if tally.total else ""
    return f"<div><progress{extent}></progress> {escape(tally.line(what, ''))}</div>"
