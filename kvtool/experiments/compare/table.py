"""Compared runs on a terminal: best against best, then a map of differences for each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.differences import (
    base_block,
    best_rows,
    block_rows,
    chance_sentence,
    differs,
    paired_sentence,
)
from kvtool.reporting.numbers import interval, p_value, plural, unit_mark
from kvtool.reporting.scores import block_tables
from kvtool.result import Result, Row, block_name


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool compare` shows below the headline."""
    rows = best_rows(result)
    if rows:
        yield _best_table(result, rows)
    for row in rows:
        texts = paired_sentence(result, row), chance_sentence(result, row)
        yield Text(f"{' '.join(filter(None, texts))}\n")
    for run in dict.fromkeys(row["run"] for row in result.rows):
        yield from _maps(result, str(run))


def _best_table(result: Result, rows: list[Row]) -> Table:
    """Return a line for each run, its best block beside that of the first run."""
    choice = "chosen on the other half" if result.config.get("select") == "split" else "optimistic"
    table = Table(
        title=Text(
            f"best blocks, {choice}: {result.metric}{unit_mark(result)}, 95 % interval; "
            f"compared with {rows[0]['base']}"
        ),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("run", overflow="fold")
    for name in ("score", "its score", "difference", "p", "p by Holm"):
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in rows:
        cells = [
            f"{row['run']}\n{block_name({**row, 'choice': None})}",
            interval(result, row),
            f"{interval(result, row, 'base_score')}\n{base_block(row)}",
            interval(result, row, "difference"),
            *("-" if row.get(name) is None else p_value(row[name]) for name in ("p", "holm_p")),
        ]
        table.add_row(*map(Text, cells))
    return table


def _maps(result: Result, run: str) -> Iterator[RenderableType]:
    """Yield the maps of one run's differences, with how many blocks differ."""
    rows = block_rows(result, run)
    if not rows:
        return
    n_different = sum(map(differs, rows))
    base = rows[0]["base"]
    yield Text(
        f"{run} less {base}, block by block: {n_different} of {plural(len(rows), 'block')} differ "
        "(p < 0.05 by Holm)"
    )
    unlabeled = [{**row, "choice": None} for row in rows]
    yield from block_tables(replace(result, metric="difference", rows=unlabeled))
