"""Charts over layers side by side on the page, a line a condition, with one legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from kvtool.reporting.charts import ChartLine, LineChart


@dataclass(frozen=True)
class CaptionedChart:
    """A chart of several side by side, which share their legend."""

    caption: str
    chart: LineChart


@dataclass(frozen=True)
class Panels:
    """Charts over layers side by side, and one legend."""

    charts: list[CaptionedChart]
    legend: list[ChartLine]


def panels_of(captioned: Sequence[CaptionedChart]) -> Panels:
    """Return charts with one legend: a line that several of them have stands in it once."""
    lines = chain.from_iterable(panel.chart.lines for panel in captioned)
    by_name = {line.name: line for line in lines}
    return Panels(list(captioned), list(by_name.values()))
