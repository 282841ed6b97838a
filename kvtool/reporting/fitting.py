"""Tables of results on narrow terminals: no number is broken, and no name folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile, zip_longest

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from kvtool.display import without_middle
from kvtool.reporting.listings import (
    GAP,
    LEAST_NAME,
    SEPARATOR,
    are_distinct,
    column_widths,
    headline,
    packed,
    shortened,
)
from kvtool.screen import WIDEST

INDENT = "    "
BESIDE_A_LAYER = ("head", "kv")
"""Columns that name a row together with the column before them."""


class MapTable(Table):
    """A table of layers and heads. narrow: the same in fewer characters, where there is such."""

    narrow: Table | None = None


def fitted(part: RenderableType, console: Console) -> RenderableType:
    """Return a part of a result as a console can show it.

    A table that is too wide is replaced by its narrow form; else its long names lose their middle
    and its sentences go on in the next line, and if that does not help, each row becomes lines.
    A headline goes on between two of its parts. Whatever else there is stays.
    """
    if isinstance(part, Group):
        return Group(*(fitted(member, console) for member in part.renderables))
    if isinstance(part, Text) and SEPARATOR in part.plain:
        return Text(headline(part.plain.split(SEPARATOR), console.width), style=part.style)
    if not isinstance(part, Table):
        return part
    if part.min_width is not None:  # room for the title, which may go on in the next line
        part.min_width = min(part.min_width, console.width)
    full_width = _full_width(part, console)
    if full_width <= console.width:
        return part
    # Maps have a form of their own for narrow screens, with colors in place of numbers.
    if isinstance(part, MapTable) and part.narrow is not None:
        return fitted(part.narrow, console)
    names = [_plain(column.header) for column in part.columns]
    lines = list(_lines(part))
    longest = [[max(cell.split("\n"), key=cell_len) for cell in cells] for cells in lines]
    columns = zip(names, zip(*longest, strict=True), strict=True)
    natural = [max(map(cell_len, (name, *cells))) for name, cells in columns]
    # What paddings and dividers take, in place of the gaps that column_widths counts.
    available = console.width - (full_width - sum(natural)) + GAP * len(names)
    # Names that are cut must still tell rows apart, or the table says less than it seems.
    widths = column_widths(names, longest, available)
    if widths is not None and are_distinct(longest, widths):
        return _narrowed(part, widths)
    return _as_lines(part, names, lines, console.width)


def _full_width(table: Table, console: Console) -> int:
    options = console.options.update(max_width=WIDEST)
    return Measurement.get(console, options, table).maximum


def _plain(cell: RenderableType) -> str:
    """Return a cell's text without its styles."""
    return cell.plain if isinstance(cell, Text) else str(cell)


def _lines(table: Table) -> Iterator[list[str]]:
    """Yield the texts of a table, row by row."""
    for cells in zip_longest(*(column.cells for column in table.columns), fillvalue=""):
        yield [_plain(cell) for cell in cells]


def _narrowed(table: Table, widths: list[int]) -> Table:
    """Return the table with columns of these widths; words longer than theirs lose their middle."""
    narrow = Table(
        title=table.title,
        title_justify=table.title_justify,
        box=table.box,
        padding=table.padding,
        show_edge=table.show_edge,
    )
    columns = []
    for column, width in zip(table.columns, widths, strict=True):
        narrow.add_column(column.header, justify=column.justify, width=width)
        columns.append(list(_cuts(list(column.cells), width)))
    for row, cells in zip(table.rows, zip(*columns, strict=True), strict=True):
        narrow.add_row(*cells, style=row.style, end_section=row.end_section)
    return narrow


def _cuts(cells: Sequence[RenderableType], width: int) -> Iterator[RenderableType]:
    """Yield the cells of a column as they fit it: as they are, or their names without the middle.

    A line stays one, where its longest name can give so much way and cells that differ still do;
    else it goes on behind a word.
    """
    texts = [_plain(cell) for cell in cells]
    lines = [[_on_one_line(line, width) for line in text.split("\n")] for text in texts]
    cut_texts = ["\n".join(cell_lines) for cell_lines in lines]
    # Cuts that make two texts equal are undone for the whole column.
    if len(set(cut_texts)) < len(set(texts)):
        cut_texts = texts
    for cell, text, cut_text in zip(cells, texts, cut_texts, strict=True):
        fitting = "\n".join(shortened(line, width) for line in cut_text.split("\n"))
        style = cell.style if isinstance(cell, Text) else ""
        yield cell if fitting == text else Text(fitting, style=style)


def _on_one_line(line: str, width: int) -> str:
    """Return a line whose longest word lost as much of its middle as is too much for a width; the
    line as it is, where the word would become too short for a name.
    """
    excess = cell_len(line) - width
    name = max(line.split(), key=cell_len, default="")
    length = cell_len(name) - excess
    if excess <= 0 or length < LEAST_NAME:
        return line
    return line.replace(name, without_middle(name, length))


def _as_lines(table: Table, names: list[str], lines: list[list[str]], width: int) -> Group:
    """Return each row as lines of its own: what names it, and below it names and values."""
    texts = [Text(_plain(table.title))] if table.title else []
    n_keys = 1 + sum(1 for _ in takewhile(lambda name: name in BESIDE_A_LAYER, names[1:]))
    for cells in lines:
        values = [
            f"{name} {' '.join(text.split())}".strip()
            for name, text in zip(names[n_keys:], cells[n_keys:], strict=True)
            if text
        ]
        # A number needs its column's name; what goes on with the row above has no name.
        keys = zip(names[:n_keys], cells[:n_keys], strict=True)
        heading = " ".join(f"{name} {cell}" if cell.isdecimal() else cell for name, cell in keys)
        texts += [Text(shortened(line, width)) for line in heading.splitlines() if line.strip()]
        texts += [
            Text(f"{INDENT}{line}", no_wrap=True, overflow="ignore")
            for line in packed(values, width - len(INDENT))
        ]
    return Group(*texts)
