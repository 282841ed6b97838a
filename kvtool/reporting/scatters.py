"""Points with intervals in two directions, and lines of chance in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvtool.reporting.axes import Axis, Tick
from kvtool.reporting.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, ChartLine
from kvtool.reporting.measures import plain_name
from kvtool.reporting.numbers import interval, scale, unit_mark
from kvtool.result import Result, Row


@dataclass(frozen=True)
class Point:
    """A point with its intervals and its label."""

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
    """Points with their axes."""

    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_name: str
    y_name: str
    label: str
    levels: list[ChartLine]


def scatter(
    result: Result,
    rows: Sequence[Row],
    x_field: str,
    y_field: str,
    name_field: str,
    levels: Sequence[tuple[str, float | None, float | None]] = (),
) -> Scatter:
    """Return a point for each row that has both fields, with its intervals.

    Args:
        result: the result.
        rows: a row a point.
        x_field: the field to the right.
        y_field: the field upward.
        name_field: the field of a point's name.
        levels: (name, x, y) of lines over the whole chart, one of the two numbers None.
    """
    rows = [row for row in rows if row.get(x_field) is not None and row.get(y_field) is not None]
    x_values = [_value_and_ends(result, row, x_field) for row in rows]
    y_values = [_value_and_ends(result, row, y_field) for row in rows]
    factor = scale(result)
    # Lines of chance lie within the axes as the points do.
    x_levels = [(factor * level,) * 3 for _, level, _ in levels if level is not None]
    y_levels = [(factor * level,) * 3 for _, _, level in levels if level is not None]
    x = _fitted([*x_values, *x_levels], LEFT, WIDTH - RIGHT)
    y = _fitted([*y_values, *y_levels], HEIGHT - BOTTOM, TOP)
    points = []
    for row, (px, x_low, x_high), (py, y_low, y_high) in zip(rows, x_values, y_values, strict=True):
        name = str(row.get(name_field))
        scores = [f"{field} {interval(result, row, field)}" for field in (x_field, y_field)]
        tip = f"{name}: {', '.join(scores)}"
        points.append(Point(name, x(px), y(py), x(x_low), x(x_high), y(y_low), y(y_high), tip))
    label = "; ".join(point.tip for point in points)
    return Scatter(
        points,
        x.ticks(6),
        y.ticks(),
        f"{plain_name(x_field)}{unit_mark(result)}",
        f"{plain_name(y_field)}{unit_mark(result)}",
        label,
        [_level(*level, factor, x, y) for level in levels],
    )


def _level(
    name: str, right: float | None, upward: float | None, factor: int, x: Axis, y: Axis
) -> ChartLine:
    """Return a line over the whole chart, upright where `right` is its number."""
    number = factor * float((right if upward is None else upward) or 0.0)
    path = f"M{x(number)} {TOP} L{x(number)} {HEIGHT - BOTTOM}"
    if upward is not None:
        path = f"M{LEFT} {y(number)} L{WIDTH - RIGHT} {y(number)}"
    return ChartLine(f"{name} {number:.1f}", "s-other s-dashed", path, "", [])


def _value_and_ends(result: Result, row: Row, name: str) -> tuple[float, float, float]:
    """Return a field's value and its ends, which are the value where there is no interval."""
    value = float(row[name])
    bounds = (row.get(f"{name}_low"), row.get(f"{name}_high"))
    low, high = (value if end is None else float(end) for end in bounds)
    factor = scale(result)
    return factor * value, factor * low, factor * high


def _fitted(ends: Sequence[tuple[float, float, float]], start_px: float, stop_px: float) -> Axis:
    low = min((low for _, low, _ in ends), default=0.0)
    high = max((high for _, _, high in ends), default=1.0)
    # Intervals stay off the chart's edges.
    room = (high - low or 1.0) * 0.12
    return Axis(low - room, high + room, start_px, stop_px)
