"""Tables of the page: what is shown of rows, and the rows themselves, of which the page makes CSV
files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from kvtool.reporting.chance import chance_interval
from kvtool.reporting.numbers import interval, unit_mark, words
from kvtool.result import LABELS, Result, Row, metric_names

ROWS_SHOWN = 400
"""The most rows of a table on the page; its CSV has all."""
METRICS_SHOWN = 4


@dataclass(frozen=True)
class PageTable:
    """Cells as text, the first column a heading.

    `data` is the name in Data of the rows in full precision, n_left_out the number of rows beyond
    ROWS_SHOWN.
    """

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
        """Add rows under a file name like `name`, and return that name."""
        # A file name for the browser, unique on the page.
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:120] or "table"
        unique = base
        number = 2
        while unique in self.tables:
            unique = f"{base}-{number}"
            number = number + 1
        # Texts that all rows share are stored once.
        columns = list(dict.fromkeys(column for row in rows for column in row))
        shared = {column: rows[0][column] for column in columns if rows and _shared(rows, column)}
        varying = [column for column in columns if column not in shared]
        values = [[row.get(column) for column in varying] for row in rows]
        self.tables[unique] = {"columns": columns, "same": shared, "own": varying, "rows": values}
        return unique


def _shared(rows: Sequence[Row], column: str) -> bool:
    first = rows[0].get(column)
    return (
        isinstance(first, str) and len(rows) > 1 and all(row.get(column) == first for row in rows)
    )


def scores_table(
    result: Result, labeled: Sequence[tuple[str, Row]], title: str, data: str
) -> PageTable:
    """Return a row for each (name, row): its metrics with their intervals, chance where it is
    known, and n."""
    names = chain.from_iterable(metric_names(row) for _, row in labeled)
    metrics = list(dict.fromkeys(names))[:METRICS_SHOWN]
    has_chance = any(row.get("chance") is not None for _, row in labeled)
    rows = [
        [
            name,
            *(interval(result, row, metric) for metric in metrics),
            *([chance_interval(result, row)] * has_chance),
            words(row.get("n")),
        ]
        for name, row in labeled
    ]
    return PageTable(
        title,
        [
            "",
            *(f"{metric}{unit_mark(result, metric)}" for metric in metrics),
            *(["chance"] * has_chance),
            "n",
        ],
        rows[:ROWS_SHOWN],
        data,
    )


def label_table(result: Result, rows: Sequence[Row], title: str, data: str) -> PageTable:
    """Return rows that have labels, e.g. the files of a benchmark under each condition."""
    labels = [name for name in (*LABELS, "group") if any(row.get(name) is not None for row in rows)]
    labeled = [(" · ".join(words(row.get(name, "all")) for name in labels), row) for row in rows]
    return scores_table(result, labeled, title, data)


def plain_table(rows: Sequence[Mapping[str, Any]], title: str, data: str) -> PageTable:
    """Return all fields as they are, ends of intervals beside their value."""
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = [name for name in names if not name.endswith(("_low", "_high"))]
    cells = [[_cell(row, column) for column in columns] for row in rows[:ROWS_SHOWN]]
    return PageTable(title, columns, cells, data, n_left_out=max(0, len(rows) - ROWS_SHOWN))


def _cell(row: Mapping[str, Any], column: str) -> str:
    low = row.get(f"{column}_low")
    high = row.get(f"{column}_high")
    text = words(row.get(column))
    return text if low is None or high is None else f"{text} [{words(low)}, {words(high)}]"
