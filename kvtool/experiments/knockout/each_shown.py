"""Every head alone as it is shown: on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from kvtool.reporting.articles import Article, clickable_blocks
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.numbers import interval, p_value, plural, show
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row

HEADS_SHOWN = 12
"""Heads that are listed, those whose margin changes most first."""
KIND = "head"
"""The kind by which the page names heads."""
MAPS = {"margin_change": "nats", "accuracy_change": "fraction"}
"""Measures that are drawn, and their units."""


def is_each(result: Result) -> bool:
    """Tell whether a knockout is of every head alone."""
    return bool(result.config.get("each"))


def table(result: Result) -> Table:
    """Return the heads whose margin changes most, one a line."""
    heads = strongest(result)[:HEADS_SHOWN]
    none = result.config["none"]
    percent = replace(result, unit="fraction")
    text = (
        f"{len(heads)} of {len(result.rows)} heads, each blocked alone; without a knockout "
        f"accuracy {interval(percent, none, 'accuracy')}, "
        f"margin {interval(result, none, 'margin')}"
    )
    lines = Table(title=Text(text), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("layer", "head", "margin", "Holm", "accuracy", "lost", "gained", "Holm"):
        lines.add_column(name, justify="right")
    for row in heads:
        cells = [str(row["layer"]), str(row["kv_head"])]
        cells += [interval(result, row), p_value(row["margin_holm_p"])]
        cells += [show(percent, row["accuracy_change"], "+")]
        cells += [str(row["n_lost"]), str(row["n_gained"]), p_value(row["mcnemar_holm_p"])]
        lines.add_row(*map(Text, cells))
    return lines


def strongest(result: Result) -> list[Row]:
    """Return the heads, those whose margin changes most first."""
    return sorted(result.rows, key=lambda row: -abs(row["margin_change"]))


def is_sure(row: Row) -> bool:
    """Tell whether a head changes the margin, by the test that is corrected for all heads."""
    return float(row["margin_holm_p"]) < SURE


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article with the maps of both changes."""
    result = study.kept[position].result
    rows = [row | {"kind": KIND} for row in result.rows]
    page_result = replace(result, rows=rows)
    heatmaps = [
        heatmap(replace(page_result, metric=name, unit=unit), KIND, rows)
        for name, unit in MAPS.items()
    ]
    return replace(
        summary,
        template="attend.html",
        rows=data.add(f"{summary.rows}-heads", rows),
        charts={"heatmaps": heatmaps},
        tables=[],
        blocks=clickable_blocks(page_result, {}) | {"best": None},
    )


def sentences(result: Result) -> Iterator[str]:
    """Say which heads change the answers' margin, and which the answers."""
    sure = [row for row in strongest(result) if is_sure(row)]
    count = f"{len(sure)} of {plural(len(result.rows), 'head')}"
    if not sure:
        yield f"No head alone, of {len(result.rows)}, changes the answers' margin for sure."
        return
    head = f"layer {sure[0]['layer']} head {sure[0]['kv_head']}"
    yield (
        f"Blocked alone, {count} change the answers' margin (Wilcoxon's test by picture, Holm over "
        f"heads), most {head}: {interval(result, sure[0])} nats."
    )
    lost = sum(row["mcnemar_holm_p"] < SURE for row in result.rows)
    yield f"{lost} of them change which answers are right (McNemar's test, Holm over heads)."
