"""Conditions side by side on a terminal, one a line, the benchmark's parts across.

See the paper's tables 3 and 7 to 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.numbers import interval, p_value, show
from kvtool.result import Result, Row

PARTS_SHOWN = 4
"""More files or subsets do not fit 80 columns."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield condition, blocked heads, the primary metric and its parts, yes-ratio, and the p of the
    test by picture, raw and corrected for the number of conditions: McNemar's takes questions as
    independent."""
    label = "file" if any("file" in row for row in result.rows) else "subset"
    parts = list(dict.fromkeys(row[label] for row in result.rows if label in row))
    names = {name for row in result.rows for name in row}
    columns = parts if 1 < len(parts) <= PARTS_SHOWN else []
    title = (
        "n heads blocked; percent, 95 % interval; p by picture"
        + "; controls without number: means" * ("draw" in names)
    )
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("condition", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column(Text(result.metric), justify="right", no_wrap=True)
    for part in (*columns, "yes", "p", "Holm"):
        table.add_column(Text(str(part)), justify="right", overflow="fold", min_width=5)
    for row in result.rows:
        if label not in row:
            part_rows = [_part(result.rows, row, label, part) for part in columns]
            table.add_row(*map(Text, _cells(result, row, part_rows)))
    yield table


def _part(rows: Sequence[Row], total: Row, label: str, part: str) -> Row | None:
    """Return the row of one file or subset beside the row of all."""
    for row in rows:
        is_draw = (row.get("condition"), row.get("draw")) == (total["condition"], total.get("draw"))
        if is_draw and row.get(label) == part:
            return row
    return None


def _cells(result: Result, row: Row, part_rows: Sequence[Row | None]) -> list[str]:
    draw = row.get("draw")
    name = row["condition"] if draw in (None, "all") else f"{row['condition']} {draw}"
    tests = (row.get("picture_p"), row.get("picture_holm_p"))
    return [
        name,
        str(row["n_heads"]),
        interval(result, row),
        *("-" if part is None else show(result, part.get(result.metric)) for part in part_rows),
        show(result, row.get("yes_ratio")),
        *("" if p is None else p_value(p) for p in tests),
    ]
