"""Prefix conditions on a terminal, the paper's table 4: score and difference by the best and the
fixed block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.chance import conditions_against_chance, level_row
from kvtool.reporting.numbers import probability, show, unit_mark
from kvtool.result import Result, Row

CHOICES = ("best", "fixed")
NAME = 24
"""The most characters of a condition in the table; a longer one stands below it in full."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool prefix` shows below the headline; intervals stand below their numbers."""
    bests = [row for row in result.rows if row["choice"] == "best"]
    yield _table(result, bests)
    yield Text("\n".join(_lines(result, bests)))


def _table(result: Result, bests: Sequence[Row]) -> Table:
    """Return a line for each condition, by its best block and by the fixed one, and one of what
    knows nothing.
    """
    rows = {(row["condition"], row["choice"]): row for row in result.rows}
    title = (
        f"{result.metric}{unit_mark(result)}, 95 % interval; difference to none, paired, p by Holm"
    )
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("condition", overflow="fold", max_width=12)
    table.add_column("best", no_wrap=True)
    for name in ("score", "difference", "fixed block", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for condition in dict.fromkeys(row["condition"] for row in result.rows):
        best = rows[condition, "best"]
        cells = [
            condition if len(condition) <= NAME else f"{condition[: NAME - 1]}…",
            _block(result, best),
        ]
        for choice in CHOICES:
            row = rows[condition, choice]
            cells.append(_cell(result, row, result.metric))
            cells.append("-" if condition == "none" else _difference(result, row))
        table.add_row(*map(Text, cells))
    table.add_row(*map(Text, _chance_cells(result, bests)))
    return table


def _lines(result: Result, bests: Sequence[Row]) -> list[str]:
    """Return what stands below the table: the blocks, chance, and the texts."""
    fixed = next(row for row in result.rows if row["choice"] == "fixed")
    choice_note = (
        "on the other half of the data"
        if result.config["select"] == "split"
        else "on the same data: optimistic"
    )
    block = f"{fixed['kind']}, layer {fixed['layer']}, head {fixed['kv_head']}"
    lines = [f"fixed block: {block}, the best of none; blocks chosen {choice_note}"]
    if (line := conditions_against_chance(result, bests)) is not None:
        lines.append(line)
    return lines + [f"{item['condition']}: {_text(item)}" for item in result.items]


def _chance_cells(result: Result, rows: Sequence[Row]) -> list[str]:
    """Return the line of what knows nothing, the same for best and fixed blocks; nothing where it
    is not known."""
    level = level_row(result, rows)
    if level is None:
        return []
    name, guess = level
    score = _cell(result, guess, result.metric)
    # The name stands in two columns, as narrow as a condition and a block.
    first, _, kind = name.partition(", ")
    return [first, kind.replace(" ", "\n"), score, "-", score, "-"]


def _block(result: Result, row: Row) -> str:
    several = len(result.config["kinds"]) > 1
    return f"{row['kind'] + chr(10) if several else ''}layer {row['layer']}\nhead {row['kv_head']}"


def _cell(result: Result, row: Row, name: str) -> str:
    value = show(result, row[name], "+" if name == "difference" else "")
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return value
    return f"{value}\n[{show(result, low)}, {show(result, high)}]"


def _difference(result: Result, row: Row) -> str:
    """Return the difference to none, its interval, and the p corrected for all conditions."""
    p = row.get("swap_holm_p")
    return _cell(result, row, "difference") + ("" if p is None else f"\n{probability(p)}")


def _text(item: Row) -> str:
    if not item["text"]:
        return "no text" if item["n_texts"] == 1 else f"{item['n_texts']} texts"
    n_further = item["n_texts"] - 1
    further = f" and {n_further} other texts" if n_further > 1 else " and another text"
    return f'"{item["text"]}"' + further * bool(n_further)
