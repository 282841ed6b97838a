"""Model, values and both on a terminal, a condition a line."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.experiments.surface.words import NAMES, half_rows, row_of, summary_rows
from kvtool.reporting.numbers import interval, p_value, show
from kvtool.result import Result, Row, block_name

METRICS = ("accuracy", "difference", "gained", "lost")
WITH_INTERVAL = METRICS[:2]
"""The others' intervals do not fit 80 columns."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool surface` shows below the headline."""
    yield _conditions(result)
    fused = row_of(result, "fused")
    yield Text(
        f"model and values against the model: {fused['n_gained']} questions gained, "
        f"{fused['n_lost']} lost of {fused['n_distinct']}; McNemar's p = "
        f"{p_value(fused['mcnemar_p'])} exact, {p_value(fused['mcnemar_mid_p'])} mid-p"
    )
    yield Text(f"a gain as high with permuted values: p = {p_value(fused['permuted_p'])}")
    yield from map(Text, _halves(result))


def _conditions(result: Result) -> Table:
    """Return a line for each condition, and chance."""
    config = result.config
    title = f"{config['dataset']}@{config['split']}; n = {result.n}; percent, 95 % interval"
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=len(title) + 2,
    )
    table.add_column("", no_wrap=True)
    for name in METRICS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in summary_rows(result):
        table.add_row(NAMES[row["condition"]], *map(Text, _cells(result, row)))
    table.add_row("chance", show(result, row_of(result, "model")["chance"]))
    return table


def _cells(result: Result, row: Row) -> Iterator[str]:
    """Yield a condition's metrics; beside the accuracy of the model itself there are none."""
    for name in METRICS:
        is_needless = row["condition"] == "model" and name != "accuracy"
        if is_needless or row.get(name) is None:
            yield ""
        else:
            yield interval(result, row, name) if name in WITH_INTERVAL else show(result, row[name])


def _halves(result: Result) -> Iterator[str]:
    """Yield which block and weight the other half chose for each half."""
    for row in half_rows(result):
        block = block_name({**row, "condition": None, "subset": None})
        further = f" and {row['n_blocks'] - 1} more" if row["n_blocks"] > 1 else ""
        yield (
            f"{row['subset']}: {block}{further}, weight {row['weight']:.3g}; "
            f"{interval(result, row, 'accuracy')} of {row['n']} questions"
        )
