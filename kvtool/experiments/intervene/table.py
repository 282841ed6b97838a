"""Interventions on a terminal, a line each: scores, tests, and the change of the margin."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.experiments.intervene.words import (
    condition_rows,
    has_margins,
    label,
    legend,
    of_margins,
)
from kvtool.reporting.chance import conditions_against_chance, level_row
from kvtool.reporting.conditions import shares_pictures
from kvtool.reporting.numbers import interval, p_value, show, unit_word
from kvtool.result import Result, Row, part_label


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield how a condition was chosen, where one was; the conditions; and what exceeds chance."""
    if (selection := result.config.get("selection")) is not None:
        yield Text(selection_line(result, selection))
    total = condition_rows(result)
    yield _table(result, total)
    yield Text(legend(result))
    if (line := conditions_against_chance(result, total, label)) is not None:
        yield Text(line)


def selection_line(result: Result, selection: Row) -> str:
    """Say what was chosen among how many, and what it scores where it was chosen."""
    entries = selection["candidates"]
    choice = selection["chosen"]
    scores = {entry["condition"]: entry["score"] for entry in entries}
    score, none = (show(result, scores[name]) for name in (choice["condition"], "none"))
    heads = ", ".join(f"{layer}:{kv_head}" for layer, kv_head in choice["heads"])
    return (
        f"chosen among {len(entries) - 1} on {selection['n_questions']} questions about the other "
        f"{selection['n_pictures']} pictures: {choice['method']} in {heads}; {score} there, none "
        f"{none}"
    )


def _table(result: Result, total: list[Row]) -> Table:
    """Return a line for each condition, and one of what knows nothing."""
    is_by_picture = shares_pictures(result.rows)
    tested = "picture" if is_by_picture else "mcnemar"
    part = part_label(result.rows)
    title = f"n heads changed; {unit_word(result)}, 95 % interval"
    title += "; margin in nats, below none its change"
    title += "; p by picture" if is_by_picture else "; McNemar's p"
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    with_margins = has_margins(result)
    table.add_column("condition", overflow="fold", min_width=12)
    for name in ("n", result.metric, "Holm", *["margin", "Holm"] * with_margins):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for row in result.rows:
        if part not in row:
            cells = _cells(result, row, tested) + _margin_cells(result, row) * with_margins
            table.add_row(*map(Text, cells))
    if (level := level_row(result, total)) is not None:
        table.add_row("chance", "", interval(result, level[1]))
    return table


def _cells(result: Result, row: Row, tested: str) -> list[str]:
    draw = row.get("draw")
    name = row["condition"] if draw in (None, "all") else f"{row['condition']} {draw}"
    p = row.get(f"{tested}_holm_p")
    return [name, str(row["n_heads"]), interval(result, row), "" if p is None else p_value(p)]


def _margin_cells(result: Result, row: Row) -> list[str]:
    """Return the margin of the model as it is, or by how much it changes, and the test's p."""
    in_nats = of_margins(result)
    p = row.get("margin_holm_p")
    if "margin_change" not in row:
        return [show(in_nats, row.get("margin")), ""]
    return [show(in_nats, row["margin_change"], "+"), "" if p is None else p_value(p)]
