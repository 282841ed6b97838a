"""Prefixes as a figure: conditions beside none (the paper's table 4)."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.reporting.plots.conditions import ConditionsPanel, ConditionsSeries, draw_panels
from kvtool.result import Result


def draw(result: Result) -> Figure:
    """Draw scores by the condition's best block and by the fixed one, and their differences to
    `none`."""
    panels = [ConditionsPanel(name, result.rows, name) for name in (result.metric, "difference")]
    names = {row["condition"]: row["condition"] for row in result.rows}
    # The fixed block is the same in all conditions.
    fixed = next(row for row in result.rows if row["choice"] == "fixed")
    block = f"layer {fixed['layer']}, head {fixed['kv_head']}"
    series = [
        ConditionsSeries("best block of the condition", lambda row: row["choice"] == "best", -0.15),
        ConditionsSeries(
            f"best block of none: {fixed['kind']}, {block}",
            lambda row: row["choice"] == "fixed",
            0.15,
            filled=False,
        ),
    ]
    choice = "on the other half" if result.config.get("select") == "split" else "on the same data"
    return draw_panels(
        result,
        panels,
        names,
        series,
        [f"blocks chosen {choice}", "difference to none: paired interval"],
    )
