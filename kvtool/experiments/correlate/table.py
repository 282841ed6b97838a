"""Correlated models on a terminal, the paper's figure 3 and table 6: a model a line, then the
coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.chance import level_row
from kvtool.reporting.numbers import interval, show
from kvtool.reporting.task_names import short_name
from kvtool.result import Result, Row

SCORES = (
    *("foreground-segmentation", "co-segmentation", "semantic-segmentation"),
    *("referring-expression", "cvbench", "blink"),
)
"""Tasks and benchmarks, in the order of their columns."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool correlate` shows below the headline."""
    models = [row for row in result.rows if "model" in row]
    labeled = list(zip(_short_names(models), models, strict=True))
    yield _table(
        f"%, 95 % interval; accuracy on {result.config['questions']} questions",
        [
            *(
                (name, [interval(result, row, score) for score in ("segmentation", "accuracy")])
                for name, row in labeled
            ),
            *_levels(result, models),
        ],
        ("segmentation", "accuracy"),
    )
    scores = [name for name in SCORES if name in models[0]]
    yield _table(
        "%: each task's best value; each benchmark's own score",
        [(name, [show(result, row[score]) for score in scores]) for name, row in labeled],
        [short_name(name) for name in scores],
    )
    for row in result.rows:
        if "coefficient" in row:
            yield _line(row)
    for note in result.config["notes"]:
        yield Text(note)


def _table(title: str, rows: Sequence[tuple[str, list[str]]], columns: Sequence[str]) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.min_width = len(title) + 2
    table.add_column("model", overflow="fold")
    for name in columns:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for label, cells in rows:
        table.add_row(*map(Text, [label, *cells]))
    return table


def _levels(result: Result, models: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return the line of what knows nothing of the pictures, where that is known: the mean of the
    tasks' chance, and the accuracy of the best guess."""
    level = level_row(result, models)
    if level is None:
        return []
    name, guess = level
    return [(name, [show(result, models[0].get("segmentation_chance")), interval(result, guess)])]


def _line(row: Row) -> Text:
    value, low, high, p = (row[name] for name in ("value", "value_low", "value_high", "p"))
    if value is None:
        text = "not defined"
    else:
        interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
        text = f"{value:.3f} {interval}, p = {p:.3f}"
        if row.get("holm_p", p) != p:
            text += f" (Holm {row['holm_p']:.3f})"
    family = f" ({row['family']})" if row.get("family") else ""
    return Text(f"{row['coefficient']}: {text}, N = {row['n']} models{family}", style="bold")


def _short_names(models: Sequence[Row]) -> list[str]:
    """Return the last part of each name, the whole name where two would be alike."""
    short = [Path(row["model"]).name for row in models]
    return [
        name if short.count(name) == 1 else f"{row['model']} {row['revision']}"
        for name, row in zip(short, models, strict=True)
    ]
