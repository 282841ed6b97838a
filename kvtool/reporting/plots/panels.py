"""A panel on top, and below it a map of layers and heads for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    result: Result, blocks: Sequence[Row], top_in: float, top: Top, words: Sequence[str]
) -> Figure:
    """blocks: rows of single blocks. top_in: height of the upper panel. words: below the title.

    A kind of one block has no map. All maps share their colours, and the best block is framed.
    """
    maps = map_rows(blocks)
    layers = [row["layer"] for row in blocks if row["kind"] in main_kinds(blocks)]
    width_in = heatmap.width_for(layers)
    heights = [
        heatmap.height_for(
            [row["kv_head"] for row in rows], width_in, [row["layer"] for row in rows]
        )
        for rows in maps.values()
    ]
    drawn = new_figure(width_in, 1)
    grid = drawn.add_gridspec(1 + len(maps), 1, height_ratios=[top_in, *heights])
    upper = drawn.add_subplot(grid[0])
    top(upper, width_in)
    lines = legend(upper, width_in - BESIDE_LEGEND_IN)
    panels = [drawn.add_subplot(grid[1 + index]) for index in range(len(maps))]
    scale = heatmap.norm([row for rows in maps.values() for row in rows], result.metric)
    colours = MAP if result.higher_is_better else f"{MAP}_r"  # the brightest is the best
    for panel, (kind, rows) in zip(panels, maps.items(), strict=True):
        mesh = heatmap.draw(panel, rows, result.metric, scale, width_in, colours)
        panel.set_xlabel(f"{'layer' if kind in DECODER else 'layer of the tower'}, {kind}")
        if result.best is not None and result.best["kind"] == kind:
            heatmap.frame(panel, [(result.best["layer"], result.best["kv_head"])])
    if panels:
        heatmap.colour_bar(
            drawn,
            mesh,
            panels,
            metric_label(result, result.metric),
            sum(heights),
            metric_ticks(result),
        )
    lines += title(drawn, about(result), words)
    drawn.set_figheight(top_in + sum(heights) + AXIS_IN * (1 + len(maps)) + LINE_IN * lines)
    return drawn


def main_kinds(blocks: Sequence[Row]) -> list[str]:
    """Kinds whose layers make the figure's width: the decoder's; of a run without them, the
    tower's."""
    kinds = list(dict.fromkeys(row["kind"] for row in blocks))
    return (
        [kind for kind in kinds if kind in DECODER]
        or [kind for kind in kinds if kind != "projected"]
        or kinds
    )


def map_rows(blocks: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by kind, where there is more than a block to tell apart."""
    kinds = dict.fromkeys(row["kind"] for row in blocks)
    of_kinds = {kind: [row for row in blocks if row["kind"] == kind] for kind in kinds}
    return {kind: rows for kind, rows in of_kinds.items() if len(rows) > 1}


def best_words(best: Row | None, name: str, mapped: bool) -> str:
    """The best block for a title. mapped: whether there is a map with its frame."""
    if best is None:
        return "not defined for any block"
    how = ", chosen on the other half" if best.get("select") == "split" else ""
    return f"best{' (framed)' * mapped}: {name}{how}"
