"""The console that tables are printed on, as wide as the terminal or, on request, as the table."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 10_000
"""Characters of a line that no table reaches."""
_widths: list[int] = []


def widen(is_wide: bool = True) -> None:
    """Print the tables of this process in full width (--wide), or as wide as the terminal."""
    _widths[:] = [WIDEST] * is_wide


def table_console(stream: IO[str]) -> Console:
    """Return a console on a stream; colors appear only on a terminal."""
    from rich.console import Console

    width = next(iter(_widths), None)
    return Console(file=stream, highlight=False, emoji=False, markup=False, width=width)
