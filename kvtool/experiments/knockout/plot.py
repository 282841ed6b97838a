"""A knockout as a figure: conditions beside none (the paper's tables 3 and 7 to 10)."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.experiments.knockout import each_plot
from kvtool.experiments.knockout.each_shown import is_each
from kvtool.reporting.plots.conditions import ConditionsPanel, ConditionsSeries, draw_panels
from kvtool.result import Result


def draw(result: Result) -> Figure:
    """Draw a panel for all questions and, where there are several, one for each file or subset; of
    every head alone a map.
    """
    if is_each(result):
        return each_plot.draw(result)
    label = "file" if any("file" in row for row in result.rows) else "subset"
    parts = list(dict.fromkeys(row[label] for row in result.rows if label in row))
    panels = [
        ConditionsPanel("all", [row for row in result.rows if label not in row], result.metric)
    ]
    if len(parts) > 1:
        for part in parts:
            rows = [row for row in result.rows if row.get(label) == part]
            panels.append(ConditionsPanel(part, rows, result.metric))
    counts = {row["condition"]: row["n_heads"] for row in result.rows}
    names = {condition: f"{condition}, {n}" if n else condition for condition, n in counts.items()}
    series = [ConditionsSeries("", lambda row: row.get("draw", "all") == "all")]
    if any(row.get("draw", "all") != "all" for row in result.rows):
        series = [
            ConditionsSeries("condition; of a control the mean of its draws", series[0].has),
            ConditionsSeries(
                "one draw", lambda row: row.get("draw", "all") != "all", 0.3, filled=False
            ),
        ]
    return draw_panels(
        result, panels, names, series, ["conditions with the number of heads blocked"]
    )
