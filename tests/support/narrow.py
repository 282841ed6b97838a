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
