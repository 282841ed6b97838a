"""A figure as it is printed, and its title."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kvtool.reporting.plots import figure
from kvtool.result import Result


def drawn(result: Result) -> Figure:
    drawing = figure(result)
    FigureCanvasAgg(drawing).draw()  # type: ignore[no-untyped-call]
    return drawing


def title(drawing: Figure) -> str:
    return drawing.get_suptitle()
