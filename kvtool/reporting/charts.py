"""Charts as plain geometry, which templates draw as inline SVG or as boxes. Numbers are only
scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from kvtool.reporting.axes import Axis, Tick, with_room
from kvtool.reporting.heatmap import cell_label
from kvtool.reporting.measures import column_beside, plain_name
from kvtool.reporting.numbers import interval, scale, unit_mark, unit_word
from kvtool.result import Result, Row

WIDTH = 560
HEIGHT = 226
LEFT = 58
RIGHT = 14
TOP = 12
BOTTOM = 40


@dataclass(frozen=True)
class Dot:
    """A point of a line: its position in pixels and its label."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class ChartLine:
    """A series over layers, or with one level a straight line; `style` is the class of its color
    and dashes."""

    name: str
    style: str
    path: str
    band: str
    dots: list[Dot]


@dataclass(frozen=True)
class LineChart:
    """Lines with their axes, their title, and the name of the column that they show."""

    lines: list[ChartLine]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    label: str
    title: str = ""
    column: str = ""


def layers_chart(
    result: Result,
    series: Sequence[tuple[str, str, list[Row]]],
    levels: Sequence[tuple[str, str, Row]],
    *,
    is_logarithmic: bool = False,
) -> LineChart:
    """Return the metric over layers.

    Args:
        result: the result.
        series: (name, style, rows by layer), drawn as lines with intervals.
        levels: (name, style, row), drawn as horizontal lines.
        is_logarithmic: whether numbers of a wide range stand on a logarithmic axis.
    """
    metric = result.metric
    series_rows = list(chain.from_iterable(rows for _, _, rows in series))
    ends = _ends(result, [*series_rows, *(row for _, _, row in levels)], metric)
    layers = sorted({row["layer"] for row in series_rows})
    # A single layer has a width as well, and outer points stay off the edges.
    x = Axis(min(layers, default=0) - 0.3, max(layers, default=0) + 0.3, LEFT, WIDTH - RIGHT)
    y = with_room(ends, HEIGHT - BOTTOM, TOP, is_logarithmic)
    lines = [_curve(result, name, style, rows, x, y) for name, style, rows in series]
    for name, style, row in levels:
        if row.get(metric) is not None:
            level = y(scale(result) * row[metric])
            path = f"M{LEFT} {level} L{WIDTH - RIGHT} {level}"
            lines.append(ChartLine(f"{name} {interval(result, row)}", style, path, "", []))
    name = plain_name(metric)
    label = f"{name} over layers: " + "; ".join(line.name for line in lines)
    return LineChart(
        lines,
        layer_ticks(layers, x),
        y.ticks(),
        "layer",
        # The title has the name: along an axis only short words fit.
        unit_word(result),
        label,
        f"{name}{unit_mark(result)}",
        column_beside(metric),
    )


def layer_ticks(layers: Sequence[int], x: Axis) -> list[Tick]:
    """Return the numbers of layers on their axis, 12 at most: more have no room."""
    return [Tick(x(layer), str(layer)) for layer in layers[:: math.ceil(len(layers) / 12) or 1]]


def _ends(result: Result, rows: Sequence[Row], field: str) -> list[float]:
    """Return a field's values and the ends of its intervals as a reader sees them."""
    values = (row.get(name) for row in rows for name in (field, f"{field}_low", f"{field}_high"))
    return [scale(result) * float(value) for value in values if value is not None]


def _curve(
    result: Result, name: str, style: str, rows: Sequence[Row], x: Axis, y: Axis
) -> ChartLine:
    """Return the line of rows by layer, with a band where they have intervals."""
    metric = result.metric
    factor = scale(result)
    by_layer = sorted(rows, key=lambda row: int(row["layer"]))
    defined = [row for row in by_layer if row.get(metric) is not None]
    dots = [
        Dot(x(row["layer"]), y(factor * row[metric]), f"{name}, {_point_label(result, row)}")
        for row in defined
    ]
    path = "M" + " L".join(f"{dot.x} {dot.y}" for dot in dots) if dots else ""
    # The band runs along the upper ends, and back along the lower ones.
    banded = [row for row in defined if row.get(f"{metric}_low") is not None]
    upper = [f"{x(row['layer'])},{y(factor * row[f'{metric}_high'])}" for row in banded]
    lower = [f"{x(row['layer'])},{y(factor * row[f'{metric}_low'])}" for row in reversed(banded)]
    return ChartLine(name, style, path, " ".join(upper + lower), dots)


def _point_label(result: Result, row: Row) -> str:
    """Return the label of a block, or of a layer where rows are of no single block."""
    if "kv_head" in row:
        return cell_label(result, row)
    return f"layer {row['layer']}: {interval(result, row)}"


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram and its label."""

    x: float
    y: float
    width: float
    height: float
    tip: str


@dataclass(frozen=True)
class ChartMark:
    """A vertical line with a name: a mode, or the cut."""

    position: float
    name: str
    style: str


@dataclass(frozen=True)
class Histogram:
    """Bars and marks with their axes."""

    bars: list[Bar]
    marks: list[ChartMark]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    label: str


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    marks: Sequence[tuple[str, float, str]],
    name: str,
) -> Histogram:
    """Return counts between edges on a logarithmic axis, with marks (name, place, style) over
    them."""
    # Marks may lie beyond all counts: the axis holds them as well.
    positions = [*edges, *(position for _, position, _ in marks)]
    x = Axis(min(positions), max(positions), LEFT, WIDTH - RIGHT, logarithmic=min(positions) > 0)
    y = Axis(0.0, float(max(counts)) * 1.12, HEIGHT - BOTTOM, TOP)
    bars = [
        Bar(
            x(a),
            y(count),
            max(x(b) - x(a) - 1, 0.5),
            y(0) - y(count),
            f"{a:.4g} to {b:.4g}: {count}",
        )
        for (a, b), count in zip(pairwise(edges), counts, strict=True)
    ]
    lines = [
        ChartMark(x(position), f"{text} {position:.4g}", style) for text, position, style in marks
    ]
    label = f"Histogram of {sum(counts)} variances; " + ", ".join(mark.name for mark in lines)
    # Counts are whole numbers, and so are their ticks.
    whole_ticks = [tick for tick in y.ticks() if "." not in tick.text]
    return Histogram(bars, lines, x.ticks(6), whole_ticks, name, "blocks", label)


@dataclass(frozen=True)
class Whisker:
    """One row of an interval chart, positions in percent of its width."""

    name: str
    position: float | None
    low: float | None
    high: float | None
    text: str
    style: str


@dataclass(frozen=True)
class Whiskers:
    """Rows of an interval chart with their axis."""

    rows: list[Whisker]
    ticks: list[Tick]
    caption: str
    column: str = ""
    bars: bool = False


def whiskers(
    result: Result,
    labeled: Sequence[tuple[str, Row, str]],
    field: str,
    caption: str,
    *,
    bars: bool = False,
) -> Whiskers:
    """Return a dot with its 95 % interval for each (name, row, style); or bars from 0."""
    factor = scale(result)
    ends = _ends(result, [row for _, row, _ in labeled], field)
    low = min(ends, default=0.0)
    high = max(ends, default=1.0)
    room = (high - low or 1.0) * 0.08
    # Bars begin at 0, or their lengths would mislead; dots need no 0.
    axis = Axis(min(0.0, low) if bars else low - room, high + room, 0.0, 100.0)
    rows = []
    for name, row, style in labeled:
        bounds = (row.get(end_name) for end_name in (field, f"{field}_low", f"{field}_high"))
        middle, start, stop = (None if end is None else axis(factor * end) for end in bounds)
        rows.append(Whisker(name, middle, start, stop, interval(result, row, field), style))
    return Whiskers(rows, axis.ticks(4), caption, column_beside(field), bars)
