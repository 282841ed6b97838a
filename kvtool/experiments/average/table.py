"""Averages on a terminal: each task's best block and their means (the paper's table 6), the best
block by the mean, and a map for each set of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.averages import (
    averaged_subsets,
    baseline_title,
    best_of_subset,
    complete_baselines,
    models_of,
    rows_of,
    tasks_of_subset,
)
from kvtool.reporting.chance import against_chance, chance_interval
from kvtool.reporting.numbers import interval, plural, show
from kvtool.reporting.scores import block_tables
from kvtool.reporting.task_names import short_name
from kvtool.result import Result, block_name


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool average` shows below the headline."""
    yield _bests(result)
    yield _means(result)
    if (line := against_chance(result)) is not None:
        yield Text(line)
    for model in models_of(result):
        for subset in averaged_subsets(result):
            n_tasks = tasks_of_subset(result, subset, model)
            rows = rows_of(result.rows, model, subset)
            if rows:
                yield Text(f"{model}, {subset}: mean of {plural(n_tasks, 'task')}")
                yield from block_tables(replace(result, rows=rows, best=None))


def _grid(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def _bests(result: Result) -> Table:
    """Return a line for each task and set, the best block of each model."""
    table = _grid("%: each task's best block; means of these bests, 95 % interval")
    table.add_column("")
    models = models_of(result)
    for model in models:
        table.add_column(Text(Path(model).name), justify="right", overflow="fold")
    items = {(row["model"], row["subset"]): row for row in result.items}
    for subset in dict.fromkeys(row["subset"] for row in result.items):
        cells = []
        for model in models:
            row = items.get((model, subset))
            cells.append("-" if row is None else interval(result, row))
        table.add_row(short_name(subset), *map(Text, cells))
    return table


def _means(result: Result) -> Table:
    """Return the block of the best mean of each model and set, beside chance and baselines."""
    table = _grid("%: the block of the best mean, chosen on the same data")
    for name in ("model", "tasks", "block"):
        table.add_column(name, overflow="fold")
    for name in ("mean", "chance"):
        table.add_column(name, justify="right", no_wrap=True)
    for model in models_of(result):
        for subset in averaged_subsets(result):
            best = best_of_subset(result, model, subset)
            if best is None:
                continue
            tasks = f"{subset} ({tasks_of_subset(result, subset, model)})"
            cells = [Path(model).name, tasks, block_name(best), interval(result, best)]
            table.add_row(*map(Text, [*cells, chance_interval(result, best)]))
            for row in complete_baselines(result, model, subset):
                score = show(result, row[result.metric])
                table.add_row(*map(Text, ["", "", baseline_title(row), score, ""]))
    return table
