"""Figures of a panel on top, and below it a map of layers and heads for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvtool.reporting.heatmap import gap_note
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.style import (
    LINE_IN,
    MAP,
    about,
    legend,
    metric_label,
    metric_ticks,
    new_figure,
    title,
)
from kvtool.result import Result, Row

AXIS_IN = 0.42
"""Height of a panel's own labels."""
BESIDE_LEGEND_IN = 0.75
DECODER = ("key", "value")

Top = Callable[[Axes, float], None]
"""Draws the upper panel of a figure that is so many inches wide."""


def over_maps(
    result: Result, blocks: Sequence[Row], top_in: float, top: Top, notes: Sequence[str]
) -> Figure:
    """Draw a panel over the maps of single blocks' rows, with notes below the title.

    A kind of one block has no map. All maps share their colors, and the best block is framed.
    `top_in` is the height of the upper panel.
    """
    maps = map_rows(blocks)
    layers = [row["layer"] for row in blocks if row["kind"] in main_kinds(blocks)]
    width_in = heatmap.width_for(layers)
    heights = [_map_height(rows, width_in) for rows in maps.values()]
    figure = new_figure(width_in, 1)
    grid = figure.add_gridspec(1 + len(maps), 1, height_ratios=[top_in, *heights])
    upper = figure.add_subplot(grid[0])
    top(upper, width_in)
    lines = legend(upper, width_in - BESIDE_LEGEND_IN)
    panels = [figure.add_subplot(grid[1 + index]) for index in range(len(maps))]
    # One scale for all maps, so that equal colors are equal scores.
    scale = heatmap.norm([row for rows in maps.values() for row in rows], result.metric)
    color_map = MAP if result.higher_is_better else f"{MAP}_r"  # the brightest is the best
    for panel, (kind, rows) in zip(panels, maps.items(), strict=True):
        mesh = heatmap.draw(panel, rows, result.metric, scale, width_in, color_map)
        panel.set_xlabel(f"{'layer of the tower' if kind == 'vision' else 'layer'}, {kind}")
        if result.best is not None and result.best["kind"] == kind:
            heatmap.frame(panel, [(result.best["layer"], result.best["kv_head"])])
    if panels:
        heatmap.color_bar(
            figure,
            mesh,
            panels,
            metric_label(result, result.metric),
            sum(heights),
            metric_ticks(result),
            next((row["chance"] for row in blocks if row.get("chance") is not None), None),
        )
    lines += title(figure, about(result), notes, [gap_note(result.config)])
    figure.set_figheight(top_in + sum(heights) + AXIS_IN * (1 + len(maps)) + LINE_IN * lines)
    return figure


def _map_height(rows: Sequence[Row], width_in: float) -> float:
    """Return the height in inches of the map of these rows."""
    heads = [row["kv_head"] for row in rows]
    layers = [row["layer"] for row in rows]
    return heatmap.height_for(heads, width_in, layers)


def main_kinds(blocks: Sequence[Row]) -> list[str]:
    """Return the kinds whose layers set the figure's width.

    These are the decoder's; in a run without them, the tower's.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in blocks))
    return (
        [kind for kind in kinds if kind in DECODER]
        or [kind for kind in kinds if kind != "projected"]
        or kinds
    )


def map_rows(blocks: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by kind, where there is more than one block to tell apart."""
    by_kind: dict[str, list[Row]] = {}
    for row in blocks:
        by_kind.setdefault(row["kind"], []).append(row)
    return {kind: rows for kind, rows in by_kind.items() if len(rows) > 1}


def best_words(best: Row | None, name: str, mapped: bool) -> str:
    """Say the best block for a title; `mapped` tells whether there is a map with its frame."""
    if best is None:
        return "not defined for any block"
    choice = ", chosen on the other half" if best.get("select") == "split" else ""
    return f"best{' (framed)' * mapped}: {name}{choice}"
