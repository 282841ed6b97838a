"""Compared runs as a figure: differences over layers with their intervals, one run beside another,
and a map of the blocks that two runs have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kvtool.reporting.differences import best_rows, block_rows, differs
from kvtool.reporting.heatmap import gap_note
from kvtool.reporting.numbers import probability
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.panels import main_kinds
from kvtool.reporting.plots.style import (
    COLORS,
    COLUMN_IN,
    LINE_IN,
    MARKERS,
    PALE,
    about,
    as_number,
    fitted,
    in_words,
    metric_label,
    metric_ticks,
    new_figure,
    points,
    scored,
    title,
)
from kvtool.result import Result, Row

ROW_IN = 0.26
AXIS_IN = 0.5
DIVERGING = "RdBu_r"


def draw(result: Result) -> Figure:
    """Draw best against best, and below it for each run the map of differences, where the blocks
    that differ by Holm are framed.
    """
    bests = best_rows(result)
    maps = [(run, rows) for run in _runs(result) if (rows := _mapped(result, run))]
    layers = [row["layer"] for _, rows in maps for row in rows]
    width_in = heatmap.width_for(layers) if layers else COLUMN_IN
    heights = [
        heatmap.height_for(
            [row["kv_head"] for row in rows], width_in, [row["layer"] for row in rows]
        )
        for _, rows in maps
    ]
    top_in = max(1, len(bests)) * ROW_IN
    figure = new_figure(width_in, 1)
    grid = figure.add_gridspec(1 + len(maps), 1, height_ratios=[top_in, *heights])
    _differences(figure.add_subplot(grid[0]), result, bests)
    panels = [figure.add_subplot(grid[1 + index]) for index in range(len(maps))]
    # One scale around 0 for all runs, so that equal colors are equal differences.
    scale = _scale([row for _, rows in maps for row in rows])
    for panel, (run, rows) in zip(panels, maps, strict=True):
        mesh = heatmap.draw(panel, rows, "difference", scale, width_in, DIVERGING)
        panel.set_xlabel(fitted(f"layer, {rows[0]['kind']}: {run}", width_in - 1))
        heatmap.frame(panel, [(row["layer"], row["kv_head"]) for row in rows if differs(row)])
    if panels:
        label = metric_label(result, "difference")
        heatmap.color_bar(figure, mesh, panels, label, sum(heights), metric_ticks(result), 0.0)
    framed = ["framed: p < 0.05 by Holm"] if maps else []
    notes = [f"difference to {result.config['run']}, paired", _chosen(result), *framed]
    lines = title(figure, about(result), notes, [gap_note(result.config)])
    figure.set_figheight(top_in + sum(heights) + AXIS_IN * (1 + len(maps)) + LINE_IN * lines)
    return figure


def _chosen(result: Result) -> str:
    """Say how the best blocks were chosen."""
    half = "the other half" if result.config.get("select") == "split" else "the same data"
    return f"best blocks chosen on {half}"


def _runs(result: Result) -> list[str]:
    return list(dict.fromkeys(row["run"] for row in result.rows))


def _mapped(result: Result, run: str) -> list[Row]:
    """Return the rows of the kind whose blocks a map shows; none for a single block."""
    rows = block_rows(result, run)
    if not rows:
        return []
    kind = main_kinds(rows)[0]
    kind_rows = [row for row in rows if row["kind"] == kind]
    return kind_rows if len(kind_rows) > 1 else []


def _differences(axes: Axes, result: Result, rows: Sequence[Row]) -> None:
    """Draw a difference for each run, best against best, with its interval."""
    for index, row in enumerate(rows):
        look: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "none",
        }
        points(axes, [index], [scored(row, "difference")], across=True, **look)
    axes.axvline(0, color=PALE, linestyle=(0, (1, 1)))
    axes.set_yticks(range(len(rows)), [_name(result, row) for row in rows])
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_xlabel(metric_label(result, "difference, best against best"))
    axes.xaxis.set_major_formatter(metric_ticks(result))


def _name(result: Result, row: Row) -> str:
    """Return a run with its difference and p, as the label of a line."""
    name = fitted(str(row["run"]), 1.2)
    if row.get("holm_p") is None:
        return name
    return f"{name}\n{in_words(result, scored(row, 'difference'))}, {probability(row['holm_p'])}"


def _scale(rows: Sequence[Row]) -> Normalize:
    """Return one range of colors for all differences, even about 0."""
    values = np.array([as_number(row["difference"]) for row in rows])
    defined = np.abs(values[np.isfinite(values)])
    end = float(defined.max(initial=0.0)) or 1.0
    return Normalize(-end, end)
