"""Averages as a figure: a column for each set of tasks, its best head of each layer above the map
of layers and heads (the paper's figures 2 and 11 to 13).

Of one model the tasks are drawn beside their mean; of several models their means on one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvtool.reporting.averages import (
    averaged_subsets,
    baseline_title,
    best_of_subset,
    complete_baselines,
    models_of,
    rows_of,
    tasks_of_subset,
)
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.panels import main_kinds
from kvtool.reporting.plots.style import (
    COLORS,
    COLUMN_IN,
    DASHES,
    INK,
    LINE_IN,
    MAP,
    MARKERS,
    PAGE_IN,
    PALE,
    fitted,
    legend,
    metric_label,
    metric_ticks,
    new_figure,
    points,
    scored,
    title,
)
from kvtool.result import Result, Row
from kvtool.store.places import folder_name

CURVE_IN = 1.7
AXIS_IN = 0.42
BESIDE_IN = 0.75
"""Left and right of a curve."""


class Column(NamedTuple):
    """A set of tasks in the figure: the maps below its curve, by model."""

    subset: str
    maps: dict[str, list[Row]]


def draw(result: Result) -> Figure:
    """Draw the sets of tasks side by side; all for itself where nothing else is averaged."""
    # The mean of all is left out where its parts are drawn.
    subsets = [name for name in averaged_subsets(result) if name != "all"] or ["all"]
    columns = [Column(subset, _maps(result, subset)) for subset in subsets]
    width_in = _width(columns)
    column_in = width_in / len(columns)
    heights = _map_heights(columns, column_in)
    figure = new_figure(width_in, 1)
    grid = figure.add_gridspec(
        1 + len(heights), len(columns), height_ratios=[CURVE_IN, *heights.values()]
    )
    n_lines = 0
    for index, column in enumerate(columns):
        axes = figure.add_subplot(grid[0, index])
        _curves(axes, result, column.subset)
        n_lines = max(n_lines, legend(axes, column_in - BESIDE_IN))
        panels = {
            model: figure.add_subplot(grid[1 + row, index])
            for row, model in enumerate(heights)
            if model in column.maps
        }
        _draw_maps(figure, result, column, panels, column_in, sum(heights.values()))
    n_lines += title(figure, _about(result), _notes(result, subsets))
    rows_in = sum(heights.values()) + AXIS_IN * (1 + len(heights))
    figure.set_figheight(CURVE_IN + rows_in + LINE_IN * n_lines)
    return figure


def _maps(result: Result, subset: str) -> dict[str, list[Row]]:
    """Return the rows of each model's map; none of a single block."""
    maps = {}
    for model in models_of(result):
        rows = rows_of(result.rows, model, subset)
        if not rows:
            continue
        kind = main_kinds(rows)[0]
        kind_rows = [row for row in rows if row["kind"] == kind]
        if len(kind_rows) > 1:
            maps[model] = kind_rows
    return maps


def _width(columns: Sequence[Column]) -> float:
    """Return the figure's width: a page's where there are two sets or many layers."""
    layers = [row["layer"] for column in columns for rows in column.maps.values() for row in rows]
    if len(columns) > 1 or not layers:
        return PAGE_IN if len(columns) > 1 else COLUMN_IN
    return heatmap.width_for(layers)


def _map_heights(columns: Sequence[Column], column_in: float) -> dict[str, float]:
    """Return the height of each model's map, the same in all columns."""
    heights: dict[str, float] = {}
    for column in columns:
        for model, rows in column.maps.items():
            heads = [row["kv_head"] for row in rows]
            layers = [row["layer"] for row in rows]
            height = heatmap.height_for(heads, column_in, layers)
            heights[model] = max(height, heights.get(model, 0.0))
    return heights


def _curves(axes: Axes, result: Result, subset: str) -> None:
    """Draw the best head of each layer: of one model each task and the mean, else the means."""
    models = models_of(result)
    # Single tasks are drawn for one model only: lines of several would hide each other.
    if len(models) == 1:
        _task_curves(axes, result, models[0], subset)
    for index, model in enumerate(models):
        n_tasks = tasks_of_subset(result, subset, model)
        name = f"mean of {n_tasks}" if len(models) == 1 else folder_name(model)
        color = INK if len(models) == 1 else COLORS[index % len(COLORS)]
        look: dict[str, Any] = {"color": color, "marker": MARKERS[index % len(MARKERS)]}
        _curve(axes, result, _main_rows(result, model, subset), name, **look, zorder=3)
        chance = next(iter(rows_of(result.rows, model, subset)), {}).get("chance")
        if chance is not None:
            label = f"chance: {100 * chance:.1f}" if index == 0 else "_"
            axes.axhline(chance, color=color, linestyle=(0, (1, 1)), linewidth=0.8, label=label)
    for index, row in enumerate(complete_baselines(result, models[0], subset)):
        if len(models) > 1 or row[result.metric] is None:
            continue
        name = fitted(baseline_title(row), 1.6)
        style = DASHES[index % len(DASHES)]
        axes.axhline(row[result.metric], color=PALE, linestyle=style, label=name)
    axes.set(ylabel=metric_label(result, "mean" if len(models) > 1 else result.metric))
    axes.set_xlabel(f"layer: {subset}")
    axes.yaxis.set_major_formatter(metric_ticks(result))


def _task_curves(axes: Axes, result: Result, model: str, subset: str) -> None:
    """Draw each task of a subset, paler than their mean."""
    for index, task in enumerate(_tasks(result, model, subset)):
        look: dict[str, Any] = {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[1 + index % (len(MARKERS) - 1)],
            "linewidth": 0.8,
            "markersize": 2.5,
        }
        _curve(axes, result, _main_rows(result, model, task), task, **look)


def _curve(axes: Axes, result: Result, rows: Sequence[Row], label: str, **look: Any) -> None:
    """Draw rows over layers with their intervals."""
    ordered = sorted(rows, key=lambda row: int(row["layer"]))
    scores = [scored(row, result.metric) for row in ordered]
    points(axes, [row["layer"] for row in ordered], scores, label=label, **look)


def _main_rows(result: Result, model: str, subset: str) -> list[Row]:
    """Return the best row of each layer, of the kind that the map shows."""
    rows = rows_of(result.per_layer, model, subset)
    kinds = main_kinds(rows) if rows else []
    return [row for row in rows if row["kind"] == kinds[0]]


def _tasks(result: Result, model: str, subset: str) -> list[str]:
    """Return the tasks whose mean a subset is; none where it is one itself."""
    from kvtool.tasks.sets import TASK_SETS

    names = [row["subset"] for row in result.items if row["model"] == model and "run" in row]
    members = [name for name in names if name in TASK_SETS.get(subset, names)]
    return members if len(members) > 1 else []


def _draw_maps(
    figure: Figure,
    result: Result,
    column: Column,
    panels: dict[str, Axes],
    width_in: float,
    height_in: float,
) -> None:
    """Draw a set's maps, one color scale for all models, each model's best block framed."""
    if not panels:
        return
    scale = heatmap.norm([row for rows in column.maps.values() for row in rows], result.metric)
    for model, panel in panels.items():
        rows = column.maps[model]
        mesh = heatmap.draw(panel, rows, result.metric, scale, width_in, MAP)
        name = folder_name(model) if len(column.maps) > 1 else column.subset
        panel.set_xlabel(fitted(f"layer, {rows[0]['kind']}: {name}", width_in - 1))
        best = best_of_subset(result, model, column.subset)
        if best is not None and best["kind"] == rows[0]["kind"]:
            heatmap.frame(panel, [(best["layer"], best["kv_head"])])
    axes = list(panels.values())
    heatmap.color_bar(figure, mesh, axes, "mean, %", height_in, metric_ticks(result))


def _about(result: Result) -> list[str]:
    """Say what was averaged, of which models."""
    return ["average over tasks", *(folder_name(model) for model in models_of(result))]


def _notes(result: Result, subsets: Sequence[str]) -> list[str]:
    """Say of how many tasks each average is, and what is drawn."""
    (model, *_) = models_of(result)
    counts = [f"{name}: {tasks_of_subset(result, name, model)} tasks" for name in subsets]
    return [*counts, "best head of each layer", "best block framed"]
