"""Charts as plain geometry, which templates draw as inline SVG or as boxes. Numbers are only scaled
here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kvtool.reporting.axes import Axis, Tick
from kvtool.reporting.heatmap import cell_label
from kvtool.reporting.numbers import interval, scale, unit_mark
from kvtool.result import Result, Row

WIDTH = 720
HEIGHT = 280
LEFT = 52
RIGHT = 14
TOP = 12
BOTTOM = 40


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class Line:
    """A series over layers, or with one level a straight line. style: class of its colour and
    dashes."""

    name: str
    style: str
    path: str
    band: str
    dots: list[Dot]


@dataclass(frozen=True)
class LineChart:
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    label: str


def layers_chart(
    result: Result,
    series: Sequence[tuple[str, str, list[Row]]],
    levels: Sequence[tuple[str, str, Row]],
) -> LineChart:
    """The metric over layers: (name, style, rows by layer) as lines with intervals, (name, style,
    row) as levels."""
    metric = result.metric
    factor = scale(result)
    rows = [row for _, _, of in series for row in of] + [row for _, _, row in levels]
    ends = [
        factor * float(row[name])
        for row in rows
        for name in (metric, f"{metric}_low", f"{metric}_high")
        if row.get(name) is not None
    ]
    low = min(ends, default=0.0)
    high = max(ends, default=1.0)
    room = (high - low or 1.0) * 0.06
    layers = sorted({row["layer"] for _, _, of in series for row in of})
    x = Axis(min(layers, default=0) - 0.3, max(layers, default=0) + 0.3, LEFT, WIDTH - RIGHT)
    y = Axis(max(low - room, 0.0) if low >= 0 else low - room, high + room, HEIGHT - BOTTOM, TOP)
    lines = []
    for name, style, of in series:
        known = [
            row
            for row in sorted(of, key=lambda row: int(row["layer"]))
            if row.get(metric) is not None
        ]
        dots = [
            Dot(x(row["layer"]), y(factor * row[metric]), f"{name}, {cell_label(result, row)}")
            for row in known
        ]
        path = "M" + " L".join(f"{dot.x} {dot.y}" for dot in dots) if dots else ""
        banded = [row for row in known if row.get(f"{metric}_low") is not None]
        upper = [f"{x(row['layer'])},{y(factor * row[f'{metric}_high'])}" for row in banded]
        lower = [
            f"{x(row['layer'])},{y(factor * row[f'{metric}_low'])}" for row in reversed(banded)
        ]
        lines.append(Line(name, style, path, " ".join(upper + lower), dots))
    for name, style, row in levels:
        if row.get(metric) is not None:
            at = y(factor * row[metric])
            lines.append(
                Line(
                    f"{name} {interval(result, row)}",
                    style,
                    f"M{LEFT} {at} L{WIDTH - RIGHT} {at}",
                    "",
                    [],
                )
            )
    step = max(1, math.ceil(len(layers) / 16))
    ticks = [Tick(x(layer), str(layer)) for layer in layers[::step]]
    label = f"{metric} over layers: " + "; ".join(line.name for line in lines)
    return LineChart(lines, ticks, y.ticks(), "layer", f"{metric}{unit_mark(result)}", label)


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    tip: str


@dataclass(frozen=True)
class ChartMark:
    """A vertical line with a name: a mode, or the cut."""

    at: float
    name: str
    style: str


@dataclass(frozen=True)
class Histogram:
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
    """Counts between edges on a logarithmic axis, with marks (name, place, style) over them."""
    places = [*edges, *(place for _, place, _ in marks)]
    x = Axis(min(places), max(places), LEFT, WIDTH - RIGHT, logarithmic=min(places) > 0)
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
    lines = [ChartMark(x(place), f"{text} {place:.4g}", style) for text, place, style in marks]
    label = f"Histogram of {sum(counts)} variances; " + ", ".join(mark.name for mark in lines)
    whole = [tick for tick in y.ticks() if "." not in tick.text]
    return Histogram(bars, lines, x.ticks(6), whole, name, "blocks", label)


@dataclass(frozen=True)
class Point:
    name: str
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    tip: str


@dataclass(frozen=True)
class Scatter:
    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    label: str


def scatter(
    result: Result, rows: Sequence[Row], x_field: str, y_field: str, name_field: str
) -> Scatter:
    """A point for each row that has both fields, with its intervals."""
    rows = [row for row in rows if row.get(x_field) is not None and row.get(y_field) is not None]
    factor = scale(result)

    def ends(row: Row, name: str) -> tuple[float, float, float]:
        value = float(row[name])
        given = (row.get(f"{name}_low"), row.get(f"{name}_high"))
        low, high = (value if end is None else float(end) for end in given)
        return factor * value, factor * low, factor * high

    x, y = (
        _fitted([ends(row, name) for row in rows], *place)
        for name, place in ((x_field, (LEFT, WIDTH - RIGHT)), (y_field, (HEIGHT - BOTTOM, TOP)))
    )
    points = []
    for row in rows:
        (px, x_low, x_high) = ends(row, x_field)
        (py, y_low, y_high) = ends(row, y_field)
        both = ", ".join(f"{name} {interval(result, row, name)}" for name in (x_field, y_field))
        tip = f"{row.get(name_field)}: {both}"
        points.append(
            Point(
                str(row.get(name_field)),
                x(px),
                y(py),
                x(x_low),
                x(x_high),
                y(y_low),
                y(y_high),
                tip,
            )
        )
    label = "; ".join(point.tip for point in points)
    return Scatter(
        points,
        x.ticks(6),
        y.ticks(),
        f"{x_field}{unit_mark(result)}",
        f"{y_field}{unit_mark(result)}",
        label,
    )


def _fitted(ends: Sequence[tuple[float, float, float]], start_px: float, stop_px: float) -> Axis:
    low = min((low for _, low, _ in ends), default=0.0)
    high = max((high for _, _, high in ends), default=1.0)
    room = (high - low or 1.0) * 0.12
    return Axis(low - room, high + room, start_px, stop_px)


@dataclass(frozen=True)
class Whisker:
    """One row of an interval chart, places in percent of its width."""

    name: str
    at: float | None
    low: float | None
    high: float | None
    text: str
    style: str


@dataclass(frozen=True)
class Whiskers:
    rows: list[Whisker]
    ticks: list[Tick]
    caption: str
    bars: bool = False


def whiskers(
    result: Result,
    named: Sequence[tuple[str, Row, str]],
    field: str,
    caption: str,
    *,
    bars: bool = False,
) -> Whiskers:
    """(name, row, style): a dot with its 95 % interval each; as bars from 0."""
    factor = scale(result)
    ends = [
        factor * float(row[each])
        for _, row, _ in named
        for each in (field, f"{field}_low", f"{field}_high")
        if row.get(each) is not None
    ]
    low = min(ends, default=0.0)
    high = max(ends, default=1.0)
    room = (high - low or 1.0) * 0.08
    axis = Axis(min(0.0, low) if bars else low - room, high + room, 0.0, 100.0)
    rows = []
    for name, row, style in named:
        given = (row.get(each) for each in (field, f"{field}_low", f"{field}_high"))
        at, start, stop = (None if end is None else axis(factor * end) for end in given)
        rows.append(Whisker(name, at, start, stop, interval(result, row, field), style))
    return Whiskers(rows, axis.ticks(4), caption, bars)
