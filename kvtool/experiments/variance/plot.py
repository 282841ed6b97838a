"""Variances: their distribution with its modes and the cut, and every head.

See the paper's figures 14 and 15.
"""

from __future__ import annotations

from math import log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kvtool.reporting.heatmap import gap_note
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.style import (
    COLORS,
    LINE_IN,
    MARK,
    about,
    as_number,
    legend,
    new_figure,
    title,
)
from kvtool.result import Result, Row

HISTOGRAM_IN = 1.4
LABELS_IN = 0.42
MANY = 5
"""Tick labels that fit below a histogram."""
FLOOR = 1e-6
"""The share of the largest variance where the histogram begins: lower ones have the lowest
color."""


def draw(result: Result) -> Figure:
    """Draw the histogram, where there is one, above the map with the input-agnostic blocks
    framed."""
    rows = result.rows
    config = result.config
    layers = [row["layer"] for row in rows]
    heads = [row["kv_head"] for row in rows]
    width_in = heatmap.width_for(layers)
    map_in = heatmap.height_for(heads, width_in, layers)
    figure = new_figure(width_in, 1)
    # Without any variance there is no histogram.
    counted = bool(config["distribution"]["counts"])
    heights = [HISTOGRAM_IN, map_in] if counted else [map_in]
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    lines = 0
    if counted:
        top = figure.add_subplot(grid[0])
        histogram(top, result)
        lines += legend(top, width_in - 0.75)
    panel = figure.add_subplot(grid[-1])
    mesh = heatmap.draw(panel, rows, result.metric, colors(rows), width_in)
    heatmap.frame(panel, [(row["layer"], row["kv_head"]) for row in rows if row["input_agnostic"]])
    panel.set_xlabel(f"layer, {config['kind']}")
    bar = heatmap.color_bar(figure, mesh, [panel], "L2 variance", map_in)
    if isinstance(mesh.norm, LogNorm):
        plain_ticks(bar.ax.yaxis, int(map_in / heatmap.TICK_IN))
    lines += title(
        figure,
        ["L2 variance", config["kind"], *about(result)[1:3], f"N = {result.n} images"],
        words(result),
        [gap_note(config)],
    )
    figure.set_figheight(sum(heights) + LABELS_IN * len(heights) + LINE_IN * lines + 0.1)
    return figure


def histogram(axes: Axes, result: Result) -> None:
    """Draw blocks by variance, on a logarithmic axis; modes dotted, the cut dashed."""
    distribution = result.config["distribution"]
    cut = result.config["threshold"]
    edges = np.array(distribution["bin_edges"])
    axes.bar(
        edges[:-1],
        distribution["counts"],
        np.diff(edges),
        align="edge",
        color="#9db8d9",
        edgecolor="white",
        linewidth=0.3,
    )
    for index, mode in enumerate(distribution["modes"]):
        label = "mode" + "s" * (len(distribution["modes"]) > 1) if index == 0 else None
        axes.axvline(mode, color=COLORS[0], linestyle=(0, (1, 1)), label=label)
    if cut is not None:
        origin = ", given" if result.config["threshold_from"] == "given" else ""
        axes.axvline(cut, color=MARK, linestyle=(0, (4, 1.5)), label=f"cut at {cut:.4g}{origin}")
    axes.set_xscale("log")
    axes.set(xlabel="L2 variance", ylabel=f"{result.config['kind']} blocks")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    plain_ticks(axes.xaxis, MANY)


def colors(rows: list[Row]) -> Normalize:
    """Return a logarithmic scale, as variances span orders of magnitude.

    It is linear where all are zero or not defined.
    """
    variances = np.array([as_number(row["variance"]) for row in rows])
    variances = variances[np.isfinite(variances)]
    top = float(variances.max(initial=0.0))
    if top <= 0:
        return heatmap.norm(rows, "variance")
    return LogNorm(max(float(variances.min()), FLOOR * top), top, clip=True)


def plain_ticks(axis: Axis, limit: int) -> None:
    """Put plain numbers on a logarithmic axis, at most `limit` of them.

    They stand at decades, with room at 1, 2 and 5 of each, and evenly within one.
    """
    low, high = sorted(axis.get_view_interval())
    if high / low < 10:
        axis.set_major_locator(MaxNLocator(max(1, limit)))
    else:
        axis.set_major_locator(
            LogLocator(
                subs=(1, 2, 5) if 3 * log10(high / low) <= limit else (1,), numticks=max(2, limit)
            )
        )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def words(result: Result) -> list[str]:
    """Say what the title says of the cut."""
    distribution = result.config["distribution"]
    cut = result.config["threshold"]
    notes = [] if distribution["bimodal"] else [f"not bimodal: {distribution['why']}"]
    if cut is None:
        return [*notes, "no cut"]
    count = sum(row["input_agnostic"] is True for row in result.rows)
    return [*notes, f"{count} of {len(result.rows)} input-agnostic{' (framed)' * bool(count)}"]
