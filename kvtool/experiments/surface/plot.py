"""Model, values and both as a figure: their accuracy with chance, and what is gained and lost."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.experiments.surface.words import NAMES, summary_rows
from kvtool.reporting.plots.conditions import ConditionsPanel, ConditionsSeries, draw_panels
from kvtool.result import Result


def draw(result: Result) -> Figure:
    """Draw a panel of accuracies, and one of differences to the model."""
    rows = summary_rows(result)
    compared = [row for row in rows if row["condition"] != "model"]
    panels = [
        ConditionsPanel("accuracy", rows, result.metric),
        ConditionsPanel("less the model", compared, "difference"),
    ]
    series = [ConditionsSeries("", lambda _: True)]
    return draw_panels(result, panels, NAMES, series, [])
