"""Conditions beside `none`: knockouts (tables 3, 7 to 10 of the paper), interventions, prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kvtool.reporting.chance import level_row
from kvtool.reporting.plots.style import (
    COLORS,
    COLUMN_IN,
    INK,
    LINE_IN,
    MARKERS,
    PAGE_IN,
    PALE,
    about,
    fitted,
    metric_label,
    metric_ticks,
    new_figure,
    points,
    scored,
    title,
)
from kvtool.result import Result, Row, part_label

ACROSS = 4
"""The most panels side by side."""
ROW_IN = 0.23
AROUND_IN = 0.62
"""Of a panel's height: its name above, the axis below."""
NAME_IN = 1.2


@dataclass(frozen=True)
class ConditionsPanel:
    """Rows of all conditions, and the metric to draw."""

    name: str
    rows: Sequence[Row]
    metric: str


@dataclass(frozen=True)
class ConditionsSeries:
    """Rows that share a look.

    `shift` is how far below the condition's line they stand, 1 being the next line.
    """

    label: str
    has: Callable[[Row], bool]
    shift: float = 0.0
    filled: bool = True


def draw_conditions(result: Result, note: str) -> Figure:
    """Draw conditions of heads: a panel for all questions and, where there are several, one for
    each file, subset or group.

    note: What the numbers behind the conditions are.
    """
    label = part_label(result.rows)
    parts = list(dict.fromkeys(row[label] for row in result.rows if label in row))
    panels = [
        ConditionsPanel("all", [row for row in result.rows if label not in row], result.metric)
    ]
    # A single part would repeat the panel of all questions.
    if len(parts) > 1:
        for part in parts:
            rows = [row for row in result.rows if row.get(label) == part]
            panels.append(ConditionsPanel(part, rows, result.metric))
    counts = {row["condition"]: row["n_heads"] for row in result.rows}
    names = {condition: f"{condition}, {n}" if n else condition for condition, n in counts.items()}
    series = [ConditionsSeries("", lambda row: row.get("draw", "all") == "all")]
    # Draws of a control are shown one by one, pale beside their mean.
    if any(row.get("draw", "all") != "all" for row in result.rows):
        series = [
            ConditionsSeries("condition; of a control the mean of its draws", series[0].has),
            ConditionsSeries(
                "one draw", lambda row: row.get("draw", "all") != "all", 0.3, filled=False
            ),
        ]
    return draw_panels(result, panels, names, series, [note])


def draw_panels(
    result: Result,
    panels: Sequence[ConditionsPanel],
    names: dict[str, str],
    series: Sequence[ConditionsSeries],
    notes: Sequence[str],
) -> Figure:
    """Draw conditions down, a panel for each metric or part; `names` are the labels of the
    conditions."""
    # As few rows of panels as hold them, filled as evenly as possible.
    down = -(-len(panels) // ACROSS)
    across = -(-len(panels) // down)
    figure = new_figure(COLUMN_IN if across == 1 else PAGE_IN, 1)
    grid = figure.add_gridspec(down, across)
    conditions = list(names)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index // across, index % across])
        draw_panel(axes, result, panel, conditions, series)
        labels = [fitted(names[condition], NAME_IN) for condition in conditions]
        axes.set_yticks(
            range(len(conditions)), labels if index % across == 0 else [""] * len(labels)
        )
        room_in = (figure.get_figwidth() - NAME_IN) / across - 0.1
        axes.set_title(
            fitted(panel.name, room_in, 8) if len(panels) > 1 else "", loc="left", fontsize=8
        )
        axes.set_xlabel(fitted(metric_label(result, panel.metric), room_in))
    lines = 0
    if len(series) > 1:
        lines = below(figure)
    lines += title(figure, about(result), [*notes, "dashed: none", *_chance_notes(result, panels)])
    figure.set_figheight(down * (ROW_IN * len(conditions) + AROUND_IN) + LINE_IN * lines + 0.15)
    return figure


def draw_panel(
    axes: Axes,
    result: Result,
    panel: ConditionsPanel,
    conditions: Sequence[str],
    series: Sequence[ConditionsSeries],
) -> None:
    """Draw one panel: every series over the conditions."""
    reference = next((row for row in panel.rows if row["condition"] == "none"), None)
    if reference is not None:
        none = scored(reference, panel.metric)
        axes.axvline(none.value, color=PALE, linestyle=(0, (4, 1.5)), linewidth=1, zorder=1)
    if (level := _level(result, panel)) is not None:
        chance = scored(level[1], result.metric)
        axes.axvline(chance.value, color=INK, linestyle=(0, (1, 2)), linewidth=0.8, zorder=1)
    for index, group in enumerate(series):
        rows = [row for row in panel.rows if group.has(row)]
        positions = [conditions.index(row["condition"]) + group.shift for row in rows]
        look: dict[str, Any] = {
            "color": COLORS[index] if len(series) > 1 else INK,
            "marker": MARKERS[index],
            "linestyle": "none",
        }
        if not group.filled:
            look["markerfacecolor"] = "white"
        points(
            axes,
            positions,
            [scored(row, panel.metric) for row in rows],
            across=True,
            label=group.label,
            **look,
        )
    axes.set_ylim(len(conditions) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.xaxis.set_major_formatter(metric_ticks(result))
    axes.grid(axis="y", color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _level(result: Result, panel: ConditionsPanel) -> tuple[str, Row] | None:
    """Return what knows nothing gets of a panel's score, with its name, where that is known."""
    return level_row(result, panel.rows) if panel.metric == result.metric else None


def _chance_notes(result: Result, panels: Sequence[ConditionsPanel]) -> list[str]:
    """Return what the dotted lines are: panels may differ in which guess is the best."""
    levels = [level for panel in panels if (level := _level(result, panel)) is not None]
    names = list(dict.fromkeys(name.removeprefix("chance, ") for name, _ in levels))
    return [f"dotted: chance ({', '.join(names)})"] if names else []


def below(figure: Figure) -> int:
    """Put the series' legend under all panels, and return its number of lines."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), handlelength=1)
    return 1
