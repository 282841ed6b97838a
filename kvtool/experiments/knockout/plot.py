"""A knockout as a figure: conditions beside none (the paper's tables 3 and 7 to 10)."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.experiments.knockout import each_plot
from kvtool.experiments.knockout.each_shown import is_each
from kvtool.reporting.plots.conditions import draw_conditions
from kvtool.result import Result


def draw(result: Result) -> Figure:
    """Draw a panel for all questions and, where there are several, one for each file or subset; of
    every head alone a map.
    """
    if is_each(result):
        return each_plot.draw(result)
    return draw_conditions(result, "conditions with the number of heads blocked")
