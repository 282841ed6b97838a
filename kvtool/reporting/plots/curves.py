"""Panels over layers, a line a condition, with 95 % bands and one legend for all panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from kvtool.reporting.axes import spans_decades
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.style import (
    COLUMN_IN,
    INK,
    LINE_IN,
    PAGE_IN,
    Interval,
    figure_legend,
    new_figure,
    points,
    scored,
    title,
)
from kvtool.result import Row

PANEL_IN = 1.5
AXIS_IN = 0.42
BESIDE_IN = 0.75
"""Left and right of a panel's axes."""
ACROSS = 2
APART = 0.7
"""Of a single layer the conditions stand side by side, over so much of a layer's room."""
BAND = 0.14


class PlotLevel(NamedTuple):
    """A horizontal line, such as chance."""

    label: str
    value: float


@dataclass(frozen=True)
class CurvesPanel:
    """A measure over layers.

    Attributes:
        field: Its name in the rows; the ends of its interval are `field_low` and `field_high`.
        label: The label of its axis.
        is_logarithmic: Whether numbers of a wide range stand on a logarithmic axis.
        level: A horizontal line, such as chance.
        layer: A layer to mark.
    """

    field: str
    label: str
    is_logarithmic: bool = False
    level: PlotLevel | None = None
    layer: int | None = None


@dataclass(frozen=True)
class PlotCurve:
    """Rows over layers that are one line, its name, and its look as matplotlib takes it."""

    label: str
    rows: Sequence[Row]
    look: Mapping[str, Any]


def draw_curves(
    panels: Sequence[CurvesPanel],
    curves: Sequence[PlotCurve],
    subject: Sequence[str],
    notes: Sequence[str],
) -> Figure:
    """Draw a panel for each measure, two side by side, and all curves in each of them."""
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(PAGE_IN if across > 1 else COLUMN_IN, 1)
    width_in = figure.get_figwidth()
    layers = sorted({row["layer"] for curve in curves for row in curve.rows})
    grid = figure.add_gridspec(down, across)
    all_axes = []
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index // across, index % across])
        _draw_panel(axes, panel, curves, layers)
        room_in = width_in / across - BESIDE_IN
        axes.set_xticks(heatmap.ticks(layers, room_in / heatmap.span(layers)))
        all_axes.append(axes)
    # The panel of most lines speaks for all: chance is in some of them alone.
    fullest = max(all_axes, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    lines = figure_legend(figure, fullest, width_in - 0.15)
    lines += title(figure, subject, notes)
    figure.set_figheight(down * (PANEL_IN + AXIS_IN) + LINE_IN * (lines + 1))
    return figure


def _draw_panel(
    axes: Axes, panel: CurvesPanel, curves: Sequence[PlotCurve], layers: Sequence[int]
) -> None:
    """Draw the curves of one measure."""
    intervals = [[scored(row, panel.field) for row in curve.rows] for curve in curves]
    # A logarithmic axis is chosen by values alone: intervals may reach below 0.
    values = [ends.value for curve in intervals for ends in curve if isfinite(ends.value)]
    is_logarithmic = panel.is_logarithmic and spans_decades(values)
    for index, (curve, ends) in enumerate(zip(curves, intervals, strict=True)):
        # Over a single layer the curves are points, which stand beside each other.
        shift = APART * ((index + 0.5) / len(curves) - 0.5) if len(layers) == 1 else 0.0
        if is_logarithmic:
            ends = [_above_zero(interval) for interval in ends]
        _draw_curve(axes, curve, ends, shift)
    if panel.level is not None:
        label = f"{panel.level.label}: {panel.level.value:g}"
        axes.axhline(
            panel.level.value, color=INK, linewidth=0.8, linestyle=(0, (1, 2)), label=label
        )
    if panel.layer is not None:
        axes.axvline(panel.layer, color=INK, linewidth=0.9, linestyle=(0, (4, 1.5)), zorder=1)
    axes.set(xlim=(min(layers) - 0.5, max(layers) + 0.5), xlabel="layer", ylabel=panel.label)
    if is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _draw_curve(axes: Axes, curve: PlotCurve, intervals: Sequence[Interval], shift: float) -> None:
    """Draw one line with its band; of a single layer a point with a bar."""
    look = dict(curve.look)
    positions = [row["layer"] + shift for row in curve.rows]
    if len(set(positions)) == 1:
        points(axes, positions, intervals, label=curve.label, **look)
        return
    (line,) = axes.plot(
        positions, [interval.value for interval in intervals], label=curve.label, **look
    )
    # A band has a gap where an interval is not defined.
    low = np.array([interval.low for interval in intervals])
    high = np.array([interval.high for interval in intervals])
    axes.fill_between(
        positions,
        low,
        high,
        where=np.isfinite(low) & np.isfinite(high),
        color=line.get_color(),
        alpha=BAND,
        linewidth=0,
    )


def _above_zero(interval: Interval) -> Interval:
    """Return an interval without a lower end that no logarithmic axis has."""
    return interval if not interval.low <= 0 else interval._replace(low=float("nan"))
