"""Maps of numbers: layers across, heads down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import Formatter, MaxNLocator
from numpy.typing import NDArray

from kvtool.reporting.plots.style import (
    COLUMN_IN,
    MAP,
    MARK,
    PAGE_IN,
    SMALL_PT,
    as_number,
    width_of,
)
from kvtool.result import Row

NARROW = 12
"""The most layers that fit a paper's column."""
BESIDE_IN = 1.0
"""Left and right of the cells: labels, color bar."""
TICK_IN = 0.2
"""Tick labels closer than this touch."""
BAR_IN = 0.09
CELL_IN = (0.12, 0.24)
TALLEST_IN = 4.0

Cell = tuple[int, int]


def width_for(layers: Sequence[int]) -> float:
    """Return the width in inches of a figure of these layers."""
    return COLUMN_IN if span(layers) <= NARROW else PAGE_IN


def height_for(heads: Sequence[int], width_in: float, layers: Sequence[int]) -> float:
    """Return the height in inches of a map's cells together.

    Cells are about square, as long as one can tell them apart.
    """
    low, high = CELL_IN
    cell = min(high, max(low, (width_in - BESIDE_IN) / span(layers)))
    return min(TALLEST_IN, cell * span(heads))


def span(numbers: Sequence[int]) -> int:
    """Return the number of positions from the lowest number to the highest."""
    return max(numbers) - min(numbers) + 1


def norm(rows: Sequence[Row], metric: str) -> Normalize:
    """Return one range of colors for all rows."""
    defined = [row[metric] for row in rows if np.isfinite(as_number(row[metric]))]
    return Normalize(min(defined, default=0.0), max(defined, default=1.0))


def draw(
    axes: Axes,
    rows: Sequence[Row],
    metric: str,
    scale: Normalize,
    width_in: float,
    color_map: str = MAP,
) -> QuadMesh:
    """Draw the cells of rows in a figure of a width, in a map of colors of matplotlib's.

    What is not defined is hatched, what was not scored stays white.
    """
    layers = [row["layer"] for row in rows]
    heads = [row["kv_head"] for row in rows]
    # Cells are drawn between their edges, half a layer and half a head around each number.
    across, down = (
        np.arange(min(numbers), min(numbers) + span(numbers) + 1) - 0.5
        for numbers in (layers, heads)
    )
    mesh = axes.pcolormesh(
        across,
        down,
        np.ma.masked_invalid(_cells(rows, metric)),
        cmap=color_map,
        norm=scale,
        edgecolors="face",
        linewidth=0.1,  # else viewers show seams
    )
    # What is not defined must not look like what was not scored.
    undefined = [
        (row["layer"], row["kv_head"]) for row in rows if not np.isfinite(as_number(row[metric]))
    ]
    frame(axes, undefined, facecolor="#dddddd", edgecolor="#888888", hatch="//////", linewidth=0)
    axes.set(xlim=(across[0], across[-1]), ylim=(down[-1], down[0]), ylabel="KV head")
    inner_in = width_in - BESIDE_IN
    axes.set_xticks(ticks(layers, inner_in / span(layers)))
    axes.set_yticks(ticks(heads, height_for(heads, width_in, layers) / span(heads), TICK_IN * 0.7))
    axes.spines[:].set_visible(False)
    return mesh


def _cells(rows: Sequence[Row], metric: str) -> NDArray[np.float64]:
    """Return the scores as a map (head, layer) of all numbers between the first and the last, NaN
    where there is none.
    """
    layers = [row["layer"] for row in rows]
    heads = [row["kv_head"] for row in rows]
    cells: NDArray[np.float64] = np.full((span(heads), span(layers)), np.nan)
    for row in rows:
        cells[row["kv_head"] - min(heads), row["layer"] - min(layers)] = as_number(row[metric])
    return cells


def color_bar(
    figure: Figure,
    mesh: QuadMesh,
    panels: Sequence[Axes],
    label: str,
    height_in: float,
    format: Formatter | None = None,
    mark: float | None = None,
) -> Colorbar:
    """Draw a color bar beside all panels, which are `height_in` high together.

    A label that is longer is left to the other panels and the title. `mark` is a number to draw a
    line at.
    """
    few = MaxNLocator(max(1, min(8, int(height_in / TICK_IN))))
    bar = figure.colorbar(
        mesh, ax=panels, aspect=height_in / BAR_IN, pad=0.015, format=format, ticks=few
    )
    bar.outline.set_visible(False)
    bar.minorticks_off()
    if mark is not None:
        bar.ax.axhline(mark, color=MARK, linewidth=1.3)
    if width_of(label, SMALL_PT) <= height_in:
        bar.set_label(label)
    return bar


def frame(axes: Axes, cells: Sequence[Cell], **look: Any) -> None:
    """Draw a rectangle around each (layer, kv_head)."""
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": MARK, "linewidth": 1.3} | look
    for layer, head in cells:
        axes.add_patch(Rectangle((layer - 0.5, head - 0.5), 1, 1, clip_on=False, **style))


def ticks(numbers: Sequence[int], each_in: float, apart_in: float = TICK_IN) -> list[int]:
    """Return the numbers to label, `each_in` inches apart, so that labels do not touch."""
    steps = (1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 50, 64, 100, 128)
    step = next((step for step in steps if step * each_in >= apart_in), 200)
    first = -(-min(numbers) // step) * step
    return list(range(first, max(numbers) + 1, step)) or [min(numbers)]
