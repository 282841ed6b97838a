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
from kvtool.reporting.measures import plain_name
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
    """Return a line for the first run and for each other one: its best block, and by how much that
    is better than the first run's.
    """
    choice = "chosen on the other half" if result.config.get("select") == "split" else "optimistic"
    mark = unit_mark(result)
    table = Table(
        title=Text(
            f"{plain_name(result.metric)}: best blocks, {choice}, 95 % intervals; differences to "
            f"the first run, paired over {rows[0]['n']} units"
        ),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("run", overflow="fold")
    test = "p by Holm" if len(rows) > 1 else "p"
    for name in (f"score{mark}", f"difference{mark}", test):
        table.add_column(Text(name), justify="right", overflow="fold")
    # The first run has no difference: it is what the others are compared with.
    first = [f"{rows[0]['base']}\n{base_block(rows[0])}", interval(result, rows[0], "base_score")]
    table.add_row(*map(Text, first))
    for row in rows:
        p = row.get("holm_p")
        cells = [
            f"{row['run']}\n{block_name({**row, 'choice': None})}",
            interval(result, row),
            interval(result, row, "difference"),
            "-" if p is None else p_value(p),
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
        f"{run} less {base}, block by block: of {plural(len(rows), 'block')} that both have, "
        f"{n_different} with a difference (p < 0.05 by Holm)"
    )
    unlabeled = [{**row, "choice": None} for row in rows]
    yield from block_tables(replace(result, metric="difference", rows=unlabeled))
