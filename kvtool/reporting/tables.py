"""Tables of the page: what is shown of rows, and the rows themselves, from which the page makes CSV
files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvtool.reporting.numbers import interval, unit_mark, words
from kvtool.result import LABELS, Result, Row, block_name, metric_names

ROWS_SHOWN = 400
"""Longer tables are cut on the page; their CSV is whole."""
METRICS_SHOWN = 4


@dataclass(frozen=True)
class PageTable:
    """Cells as text, the first column a heading. data: name in Data of the rows in full precision.
    n_left_out: rows beyond ROWS_SHOWN."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    data: str
    marked: frozenset[int] = frozenset()
    n_left_out: int = 0


@dataclass
class Data:
    """Rows by name, as the page embeds them: columns once, values by row, what all rows share
    apart."""

    tables: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, rows: Sequence[Row]) -> str:
        """Keep rows under a file name made of `name`; returns it."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:120] or "table"
        unique = base
        number = 2
        while unique in self.tables:
            unique = f"{base}-{number}"
            number = number + 1
        columns = list(dict.fromkeys(column for row in rows for column in row))
        same = {c: rows[0][c] for c in columns if rows and _shared(rows, c)}
        own = [column for column in columns if column not in same]
        values = [[row.get(column) for column in own] for row in rows]
        self.tables[unique] = {"columns": columns, "same": same, "own": own, "rows": values}
        return unique


def _shared(rows: Sequence[Row], column: str) -> bool:
    first = rows[0].get(column)
    return (
        isinstance(first, str) and len(rows) > 1 and all(row.get(column) == first for row in rows)
    )


def scores_table(
    result: Result, named: Sequence[tuple[str, Row]], title: str, data: str
) -> PageTable:
    """A row for each (name, row): its metrics with their intervals, and n."""
    metrics = list(dict.fromkeys(metric for _, row in named for metric in metric_names(row)))[
        :METRICS_SHOWN
    ]
    rows = [
        [name, *(interval(result, row, m) for m in metrics), words(row.get("n"))]
        for name, row in named
    ]
    return PageTable(
        title,
        ["", *(f"{metric}{unit_mark(result)}" for metric in metrics), "n"],
        rows[:ROWS_SHOWN],
        data,
    )


def label_table(result: Result, rows: Sequence[Row], title: str, data: str) -> PageTable:
    """Rows that have labels, e.g. the files of a benchmark under each condition."""
    labels = [name for name in LABELS if any(row.get(name) is not None for row in rows)]
    named = [(" · ".join(words(row.get(name, "all")) for name in labels), row) for row in rows]
    return scores_table(result, named, title, data)


def plain_table(rows: Sequence[Mapping[str, Any]], title: str, data: str) -> PageTable:
    """All fields as they are, ends of intervals beside their value."""
    columns = [
        c
        for c in dict.fromkeys(name for row in rows for name in row)
        if not c.endswith(("_low", "_high"))
    ]
    cells = [[_cell(row, column) for column in columns] for row in rows[:ROWS_SHOWN]]
    return PageTable(title, columns, cells, data, n_left_out=max(0, len(rows) - ROWS_SHOWN))


def _cell(row: Mapping[str, Any], column: str) -> str:
    low = row.get(f"{column}_low")
    high = row.get(f"{column}_high")
    text = words(row.get(column))
    return text if low is None or high is None else f"{text} [{words(low)}, {words(high)}]"


def named_rows(rows: Sequence[Row]) -> list[tuple[str, Row]]:
    return [(block_name(row) + (f", {row['run']}" if row.get("run") else ""), row) for row in rows]
