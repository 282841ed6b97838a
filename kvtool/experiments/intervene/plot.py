"""Interventions as a figure: conditions beside none."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.reporting.plots.conditions import draw_conditions
from kvtool.result import Result


def draw(result: Result) -> Figure:
    """Draw a panel for all questions and, where there are several, one for each part."""
    return draw_conditions(result, "conditions with the number of heads changed")
