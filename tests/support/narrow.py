"""What a terminal of some width shows of a result, and what of it is broken."""

from __future__ import annotations

import re
from io import StringIO

from rich.console import Console, RenderableType

from kvtool.reporting.fitting import fitted
from kvtool.reporting.terminal import render
from kvtool.result import Result
from kvtool.screen import WIDEST

NUMBER = re.compile(r"(?<![\w.-])-?\d[\d,]*\.\d+(?![\w.-])")
"""Numbers with a fraction that are no part of a name."""


RECORD = re.compile(r"[a-z][a-z0-9 -]*: ")
"""How a line begins that is never folded, since people copy its value."""
ELLIPSIS = "..."
SHADES = "·░▒▓█"


def text_at(part: RenderableType, width: int) -> str:
    """Return a part of a result as a console of this width shows it."""
    console = Console(file=StringIO(), width=width, highlight=False, emoji=False, markup=False)
    console.print(fitted(part, console))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def assert_fits(result: Result, width: int) -> None:
    """Assert that no line of a result is longer than a terminal is wide, and no number broken.

    Every number that an endless line shows stands there whole, but for a map of heads, which may
    show fewer.
    """
    for part in render(result):
        narrow = text_at(part, width)
        assert max((len(line.rstrip()) for line in narrow.splitlines()), default=0) <= width, narrow
        endless = NUMBER.findall(text_at(part, WIDEST))
        numbers = NUMBER.findall(narrow)
        if getattr(part, "narrow", None) is None:
            assert sorted(numbers) == sorted(endless), narrow
        else:
            assert set(numbers) <= set(endless), narrow


def assert_whole(narrow: str, endless: str, width: int) -> None:
    """Assert that a narrow text has whole words, numbers among them, of an endless one alone.

    A name may lose its middle, a map of heads its numbers, and a record's line is as long as its
    value.
    """
    for line in narrow.splitlines():
        assert len(line) <= width or RECORD.match(line), line
    words = {word for word in narrow.split() if ELLIPSIS not in word and set(word) - set(SHADES)}
    # A record's names end in a colon, a table's do not; rules are as wide as the table.
    vocabulary = {word.rstrip(":") for word in endless.split()}
    folded = {word for word in words if word.rstrip(":") not in vocabulary and set(word) - {"─"}}
    assert not folded, narrow
    if not set(narrow) & set(SHADES[1:]):
        assert set(NUMBER.findall(narrow)) == set(NUMBER.findall(endless)), narrow
