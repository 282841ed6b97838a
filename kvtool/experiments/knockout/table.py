"""Conditions side by side on a terminal, one a line, the benchmark's parts across.

See the paper's tables 3 and 7 to 10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.experiments.knockout import each_shown
from kvtool.reporting.chance import conditions_against_chance, level_row
from kvtool.reporting.conditions import shares_pictures
from kvtool.reporting.numbers import interval, p_value, show, unit_word
from kvtool.result import Result, Row, part_label

PARTS_SHOWN = 4
"""More files or subsets do not fit 80 columns."""
MCNEMAR = ("mcnemar_p", "mcnemar_holm_p")
PICTURE = ("picture_p", "picture_holm_p")


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield condition, blocked heads, the primary metric and its parts, yes-ratio, and a test's p,
    raw and corrected for the number of conditions.

    It is McNemar's exact test; where questions share pictures, which McNemar's does not know, the
    one that swaps conditions picture by picture, with McNemar's beside it where there is room. Of
    every head alone, those that change the answer's margin most.
    """
    if each_shown.is_each(result):
        yield from each_shown.tables(result)
        return
    label = part_label(result.rows)
    total = [row for row in result.rows if label not in row and row.get("draw", "all") == "all"]
    yield _table(result, label, total)
    if (line := conditions_against_chance(result, total)) is not None:
        yield Text(line)


def _table(result: Result, label: str, total: Sequence[Row]) -> Table:
    """Return a line for each condition, and one of what knows nothing.

    Args:
        result: The result.
        label: What the benchmark's parts are called in rows.
        total: The rows of all questions, controls as the mean of their draws.
    """
    parts = list(dict.fromkeys(row[label] for row in result.rows if label in row))
    columns = parts if 1 < len(parts) <= PARTS_SHOWN else []
    names = {name for row in result.rows for name in row}
    is_by_picture = shares_pictures(result.rows)
    # The test by picture comes first; McNemar's stands beside it where there is room.
    has_both = is_by_picture and not columns
    title = (
        f"n heads blocked; {unit_word(result)}, 95 % interval"
        + "; controls without number: means" * ("draw" in names)
        + "; p by picture" * is_by_picture
    )
    tests = [*(PICTURE if is_by_picture else MCNEMAR), *MCNEMAR[:1] * has_both]
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("condition", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column(Text(result.metric), justify="right", no_wrap=True)
    for part in (*columns, "yes", "p", "Holm", *["McNemar"] * has_both):
        table.add_column(Text(str(part)), justify="right", overflow="fold", min_width=5)
    for row in result.rows:
        if label not in row:
            part_rows = [_part(result.rows, row, label, part) for part in columns]
            p_values = [row.get(name) for name in tests]
            table.add_row(*map(Text, _cells(result, row, part_rows, p_values)))
    if (level := level_row(result, total)) is not None:
        parts_chance = [
            next((row["chance"] for row in result.rows if row.get(label) == part), None)
            for part in columns
        ]
        cells = ["chance", "", interval(result, level[1])]
        table.add_row(*map(Text, [*cells, *(show(result, value) for value in parts_chance)]))
    return table


def _part(rows: Sequence[Row], total: Row, label: str, part: str) -> Row | None:
    """Return the row of one file or subset beside the row of all."""
    for row in rows:
        is_draw = (row.get("condition"), row.get("draw")) == (total["condition"], total.get("draw"))
        if is_draw and row.get(label) == part:
            return row
    return None


def _cells(
    result: Result,
    row: Row,
    part_rows: Sequence[Row | None],
    p_values: Sequence[float | None],
) -> list[str]:
    draw = row.get("draw")
    name = row["condition"] if draw in (None, "all") else f"{row['condition']} {draw}"
    return [
        name,
        str(row["n_heads"]),
        interval(result, row),
        *("-" if part is None else show(result, part.get(result.metric)) for part in part_rows),
        show(result, row.get("yes_ratio")),
        *("" if p is None else p_value(p) for p in p_values),
    ]
