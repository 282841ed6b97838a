"""How the public objects show themselves at a prompt and in a notebook: a title and a few facts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

MOST_FACTS = 9
"""Lines below the title, so that no object takes more than ten."""
WIDTH = 100
MOST_NAMES = 5
ELLIPSIS = "..."
"""Stands for the middle of a name that is too long for a table."""

Facts = dict[str, Any]


class Displayed:
    """An object with a short `repr` and the same facts as a table in a notebook.

    A subclass says what it is in `_title` and what is worth knowing in `_facts`. Facts that are
    None are left out.
    """

    def _title(self) -> str:
        """Return what the object is, in a few words."""
        return type(self).__name__

    def _facts(self) -> Facts:
        """Return the facts below the title, by name."""
        return {}

    def __repr__(self) -> str:
        """Return the title and a line for each fact, ten lines at most."""
        lines = [f"  {shorten(f'{name}: {value}', WIDTH - 2)}" for name, value in self._lines()]
        return "\n".join([shorten(self._title()), *lines])

    def _repr_html_(self) -> str:
        """Return the same as a table for a notebook."""
        cells = "".join(
            f'<tr><th style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(shorten(value))}</td></tr>'
            for name, value in self._lines()
        )
        return f"<table><caption>{escape(shorten(self._title()))}</caption>{cells}</table>"

    def _lines(self) -> list[tuple[str, str]]:
        """Return the facts that are shown, as text."""
        facts = [(name, str(value)) for name, value in self._facts().items() if value is not None]
        return facts[:MOST_FACTS]


def shell_path(path: str | os.PathLike[str]) -> str:
    """Return a path as it stands in a command that people paste: quoted, and never a flag."""
    return shlex.quote(unlike_flag(path))


def unlike_flag(path: str | os.PathLike[str]) -> str:
    """Return a path that no command takes for a flag: `./-x.kv` for `-x.kv`."""
    text = os.fspath(path)
    return f"./{text}" if text.startswith("-") else text


def shorten(text: str, width: int = WIDTH) -> str:
    """Return a text on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


def without_middle(text: str, width: int) -> str:
    """Return a text of at most `width` characters: what is too much is left out of its middle."""
    if len(text) <= width:
        return text
    n_left = max(0, width - len(ELLIPSIS))
    tail = n_left // 2
    return f"{text[: n_left - tail]}{ELLIPSIS}{text[len(text) - tail :]}"[:width]


def listing(names: Sequence[object]) -> str:
    """Return the first few of many names, and how many more there are."""
    first_names = ", ".join(str(name) for name in names[:MOST_NAMES])
    n_hidden = len(names) - MOST_NAMES
    return f"{first_names} and {n_hidden} more" if n_hidden > 0 else first_names or "none"


def numbers(values: Sequence[int]) -> str:
    """Return whole numbers in few characters: "0 to 27", or one by one where they have gaps."""
    if len(values) > 2 and list(values) == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    return listing(values)


def numbered(what: str, numbers: Sequence[int]) -> str:
    """Return "layer 3", or "layers 3-5, 7": rising numbers, neighbors as ranges."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    ranges = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(ranges)}"
