"""Models by how well their values segment and how well they perceive (the paper's figure 3)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from kvtool.reporting.chance import level_row
from kvtool.reporting.numbers import probability
from kvtool.reporting.plots.style import (
    COLORS,
    COLUMN_IN,
    INK,
    LINE_IN,
    MARKERS,
    fitted,
    metric_label,
    metric_ticks,
    new_figure,
    points,
    scored,
    title,
)
from kvtool.result import Result, Row
from kvtool.store.places import folder_name

AXES_IN = 2.6


def draw(result: Result) -> Figure:
    """Draw a point for each model, with intervals both ways, and their names below."""
    models = [row for row in result.rows if "model" in row]
    figure = new_figure(COLUMN_IN, 1)
    axes = figure.add_subplot()
    for index, row in enumerate(models):
        x = scored(row, "segmentation")
        y = scored(row, "accuracy")
        color = COLORS[index % len(COLORS)]
        look: dict[str, Any] = {
            "color": color,
            "marker": MARKERS[index % len(MARKERS)],
            "markersize": 5.5,
            "linestyle": "none",
        }
        points(
            axes, [x.value], [y], label=fitted(folder_name(row["model"]), COLUMN_IN - 0.5), **look
        )
        # The same point again, with its other interval.
        points(axes, [y.value], [x], across=True, **look | {"label": "_"})
    if (level := level_row(result, models)) is not None:
        chance = scored(level[1], result.metric)
        axes.axhline(chance.value, color=INK, linestyle=(0, (1, 2)), linewidth=0.8, label=level[0])
    if models and models[0].get("segmentation_chance") is not None:
        position = models[0]["segmentation_chance"]
        axes.axvline(position, color=INK, linestyle=(0, (1, 2)), linewidth=0.8)
    axes.set(xlabel=metric_label(result, "segmentation"), ylabel=metric_label(result, "accuracy"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(metric_ticks(result))
    axes.margins(0.08)
    figure.legend(loc="outside lower left", ncols=1, handlelength=1, labelspacing=0.25)
    lines = len(models) + (level is not None) + title(figure, about(result), words(result))
    figure.set_figheight(AXES_IN + LINE_IN * lines + 0.25)
    return figure


def about(result: Result) -> list[str]:
    """Say what was averaged, and over how many models."""
    config = result.config
    benchmarks = ", ".join(map(str, config.get("benchmarks", [])))
    n_tasks = len(config.get("tasks", []))
    return [
        f"segmentation, mean of {n_tasks} task{'s' * (n_tasks != 1)}",
        f"accuracy on {benchmarks}" if benchmarks else "accuracy",
        f"N = {result.n} model{'s' * (result.n != 1)}",
    ]


def words(result: Result) -> list[str]:
    """Say the coefficients, or why there are none."""
    coefficients = [coefficient(row) for row in result.rows if "coefficient" in row]
    return coefficients or [
        note for note in result.config.get("notes", []) if note.startswith("no coefficient")
    ]


def coefficient(row: Row) -> str:
    """Say a coefficient: 'pearson of llava_onevision 0.93 [0.20, 1.00], p = 0.040'."""
    value, low, high, p = (row.get(name) for name in ("value", "value_low", "value_high", "p"))
    family = f"of {row['family']} " if row.get("family") else ""
    text = f"{row['coefficient']} {family}" + ("not defined" if value is None else f"{value:.2f}")
    if low is not None and high is not None:
        text += f" [{low:.2f}, {high:.2f}]"
    return text if p is None else f"{text}, {probability(p)}"
