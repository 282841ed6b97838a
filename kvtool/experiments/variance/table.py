"""Variances on a terminal: their distribution with its modes and cut, the map, and counts per
group."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.result import Result, Row

HEADS_SHOWN = 8
"""More heads than this do not fit 80 columns: only a layer's range is shown."""
BAR = 24


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool variance` shows below the headline."""
    config = result.config
    if config["distribution"]["counts"]:
        yield _histogram(config["distribution"], config["threshold"])
    yield _map(result)
    if config["groups"]:
        yield _groups(config["groups"])
        if any(group["n_input_agnostic"] is None for group in config["groups"]):
            yield Text("-: not decided, since no cut is taken")
    for note in config["notes"]:
        yield Text(note)


def _histogram(distribution: dict[str, Any], threshold: float | None) -> Table:
    table = _table("keys by L2 variance, logarithmic bins")
    table.add_column("from", justify="right")
    table.add_column("to", justify="right")
    table.add_column("keys", justify="right")
    table.add_column("")
    highest = max(distribution["counts"])
    marks = [("mode", mark) for mark in distribution["modes"]]
    marks += [("cut", threshold)] if threshold is not None else []
    for (start, stop), count in zip(
        pairwise(distribution["bin_edges"]), distribution["counts"], strict=True
    ):
        # Modes and cut are told in the bin that they fall into.
        bin_marks = [f"{name} {mark:.4g}" for name, mark in marks if start <= mark < stop]
        bar = "#" * -(-BAR * count // highest)
        table.add_row(
            f"{start:.4g}", f"{stop:.4g}", str(count), Text(" ".join([bar, *bin_marks]).strip())
        )
    return table


def _map(result: Result) -> Table:
    """Put layers down and heads across; input-agnostic ones stand in brackets."""
    has_agnostic = any(row["input_agnostic"] for row in result.rows)
    table = _table("L2 variance" + "; [in brackets]: input-agnostic" * has_agnostic)
    table.add_column("layer", justify="right")
    heads = sorted({row["kv_head"] for row in result.rows})
    is_wide = len(heads) > HEADS_SHOWN
    for name in (
        ["lowest", "highest", "input-agnostic heads"] if is_wide else [f"h{head}" for head in heads]
    ):
        table.add_column(name, justify="right")
    for layer in sorted({row["layer"] for row in result.rows}):
        rows = [row for row in result.rows if row["layer"] == layer]
        table.add_row(str(layer), *map(Text, _range(rows) if is_wide else map(_cell, rows)))
    return table


def _cell(row: Row) -> str:
    value = "-" if row["variance"] is None else f"{row['variance']:.4g}"
    return f"[{value}]" if row["input_agnostic"] else value


def _range(rows: list[Row]) -> list[str]:
    defined = sorted(
        (row["variance"], index) for index, row in enumerate(rows) if row["variance"] is not None
    )
    ends = [_cell(rows[defined[end][1]]) for end in (0, -1)] if defined else ["-", "-"]
    return [*ends, ", ".join(str(row["kv_head"]) for row in rows if row["input_agnostic"])]


def _groups(groups: list[Row]) -> Table:
    table = _table("input-agnostic by layers")
    for name in ("group", "layers", "keys", "input-agnostic"):
        table.add_column(name, justify="left" if name == "group" else "right")
    for group in groups:
        layers = group["layers"]
        agnostic = group["n_input_agnostic"]
        cells = [
            group["group"],
            f"{layers[0]}-{layers[-1]}",
            str(group["n_keys"]),
            "-" if agnostic is None else str(agnostic),
        ]
        table.add_row(*map(Text, cells))
    return table


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        min_width=len(title) + 2,
    )
