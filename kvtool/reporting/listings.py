"""Plain rows on a terminal: one record as lines of names and values, several as a table that fits.

No number is ever broken, and no name folded: where a table is too wide, long names lose their
middle, sentences go on in the next line, and if that does not help, each row becomes lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.cells import cell_len
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from kvtool.display import without_middle
from kvtool.screen import table_console

Rows = Sequence[Mapping[str, Any]]

GAP = 2
"""Characters between two columns."""
LEAST_NAME = 15
"""A name is never cut below this; two runs of a store mostly differ within it or at the end."""
LEAST_PROSE = 18
SEPARATOR = " · "


def text_of(value: Any, name: str = "") -> str:
    """Return the text of a value, on one line; a field of bytes as a size that people read."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(text_of(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    is_size = name == "bytes" or name.endswith("_bytes") or name.startswith("bytes_")
    if is_size and isinstance(value, int):
        return decimal(value)
    return " ".join(str(value).split())


def print_rows(rows: Rows, title: str, stream: IO[str]) -> None:
    """Print rows as a terminal of the stream's width shows them, or of any width after widen().

    Args:
        rows: the rows; their fields need not be the same.
        title: stands above a table. A single row without one is a record, of lines.
        stream: where they are printed.
    """
    if len(rows) == 1 and not title:
        stream.write(record(rows[0]))
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[text_of(row.get(name), name) for name in names] for row in rows]
    console = table_console(stream)
    # Rows that could not be told apart once they are cut stand as records instead.
    widths = column_widths(names, cells, console.width)
    if widths is not None and not are_distinct(cells, widths):
        widths = None
    if title:
        console.print(Text(headline(title.split(SEPARATOR), console.width), style="bold"))
    if widths is None:
        stream.write("\n".join(map(record, rows)))
    else:
        console.print(_table(rows, names, cells, widths))


def headline(parts: Sequence[str], width: int) -> str:
    """Return the parts of a headline behind each other; no line begins or ends between two."""
    return "\n".join(packed(parts, width))


def packed(parts: Sequence[str], width: int) -> Iterator[str]:
    """Yield lines of as many parts as fit a width, a part on one line."""
    line = ""
    for part in parts:
        longer = f"{line}{SEPARATOR}{part}" if line else part
        if line and cell_len(longer) > width:
            yield line
            longer = part
        line = longer
    if line:
        yield line


def record(row: Mapping[str, Any]) -> str:
    """Return a row as lines of names and values, aligned; fields that say nothing are left out.

    A value is never folded: where a line is longer than the terminal, the terminal goes on with it.
    """
    texts = {name: text_of(value, name) for name, value in row.items()}
    labels = {name: f"{name.replace('_', ' ')}:" for name, text in texts.items() if text}
    indent = max(map(cell_len, labels.values()), default=0) + 1
    return "".join(f"{label.ljust(indent)}{texts[name]}\n" for name, label in labels.items())


def column_widths(
    names: Sequence[str], cells: Sequence[Sequence[str]], width: int
) -> list[int] | None:
    """Return each column's width, None where they cannot all stand side by side.

    Args:
        names: the columns' names.
        cells: their texts, row by row.
        width: characters of a line.
    """
    columns = [[line[index] for line in cells] for index in range(len(names))]
    heads = [max(map(cell_len, name.replace("_", " ").split()), default=0) for name in names]
    widths = [
        max(head, *map(cell_len, column)) for head, column in zip(heads, columns, strict=True)
    ]
    # Numbers cannot be shortened; prose breaks between words, and names lose their middle.
    least = [
        max(head, min(full, _least(column)))
        for head, full, column in zip(heads, widths, columns, strict=True)
    ]
    available = width - GAP * len(names)
    if sum(least) > available:
        return None
    # The widest column gives way first, until all fit.
    while sum(widths) > available:
        index = max((i for i in range(len(names)) if widths[i] > least[i]), key=lambda i: widths[i])
        widths[index] -= 1
    return widths


def are_distinct(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> bool:
    """Tell whether names that differ still do in columns of these widths."""
    for index, width in enumerate(widths):
        texts = {" ".join(line[index].split()) for line in cells}
        if len({shortened(text, width) for text in texts}) < len(texts):
            return False
    return True


def shortened(text: str, width: int) -> str:
    """Return a text whose words fit a width: longer ones lose their middle."""
    return " ".join(without_middle(word, width) for word in text.split())


def _least(column: Sequence[str]) -> int:
    """Return how narrow a column may become: not at all where it holds numbers."""
    if all(map(_is_number, column)):
        return max(map(cell_len, column))
    if any(" " in text for text in column):
        # Between words a line may end; a word itself stays whole.
        words = (cell_len(word) for text in column for word in text.split())
        return max(LEAST_PROSE, *words)
    return LEAST_NAME


def _is_number(text: str) -> bool:
    """Tell whether a cell begins like a number: counts, sizes, scores with their intervals."""
    return not text or text[0].isdigit() or (text[:1] in "+-" and text[1:2].isdigit())


def _table(
    rows: Rows,
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    widths: Sequence[int],
) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        # A column's divider is a space as well.
        padding=(0, GAP - 1, 0, 0),
    )
    for name, width in zip(names, widths, strict=True):
        # Numbers stand right, so that their digits can be compared.
        numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(
            Text(name.replace("_", " ")), justify="right" if numbers else "left", width=width
        )
    for line in cells:
        cuts = (shortened(text, width) for text, width in zip(line, widths, strict=True))
        table.add_row(*map(Text, cuts))
    return table
