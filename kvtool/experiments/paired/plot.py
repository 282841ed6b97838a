"""The model beside its image values: shares of questions that both, one or neither has right.

See the paper's table 5.
"""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvtool.errors import KvtoolError
from kvtool.reporting.numbers import probability
from kvtool.reporting.plots.panels import best_words, map_rows, over_maps
from kvtool.reporting.plots.style import COLORS, INK, SMALL_PT, in_words, metric_ticks, scored
from kvtool.result import Result, Row, block_name

BARS_IN = 1.7
RIGHT = (("model", "model right"), ("union", "either right"))
CELLS = (
    ("both", "both right"),
    ("value_only", "values only"),
    ("model_only", "model only"),
    ("neither", "neither"),
)
HATCHES = {"both": "", "value_only": "////", "model_only": "\\\\\\\\", "neither": "...."}
HEIGHTS = (0.0, 1.0, 2.0, 3.5, 4.5, 5.5, 6.5)
"""Heights of the bars; the cells, which add up to one, stand apart from what chance is a measure
of."""
CHANCE = (-0.5, 2.5)


def draw(result: Result) -> Figure:
    """Draw bars of the best block, and the accuracy of every block's values."""
    best = result.best
    if best is None:
        raise KvtoolError(
            "--plot: expected a best block, found none: no block's accuracy is defined"
        )
    p = best["mcnemar_p"]
    notes = [
        best_words(best, block_name(best), best["kind"] in map_rows(result.rows)),
        f"{best['n']} questions" if best["n"] != result.n else "",
        "" if p is None else f"McNemar {probability(p)}",
        *tested(best),
    ]
    return over_maps(result, result.rows, BARS_IN, partial(bars, result=result, best=best), notes)


def tested(best: Row) -> list[str]:
    """Say how sure it is that the values know more than guessing gives, where that was tested."""
    p = best.get("value_p")
    return [] if p is None else [f"values against guessing {probability(p)}"]


def mark_guesses(axes: Axes, best: Row) -> None:
    """Mark what the best of as many guessing blocks gets, beside the bars of which it speaks."""
    n_blocks = best.get("n_blocks", 1)
    for name, y in (("chance_max", HEIGHTS[0]), ("guess_best_value_only", HEIGHTS[4])):
        score = scored(best, name)
        if not isfinite(score.value):
            continue
        label = f"best of {n_blocks} guessing, 95 %" if name == "chance_max" else None
        axes.hlines([y + 0.28], [score.low], [score.high], colors=["#b03060"], linewidth=1.6)
        look: dict[str, Any] = {
            "color": "#b03060",
            "marker": "|",
            "markersize": 6,
            "linestyle": "none",
        }
        axes.plot([score.value], [y + 0.28], label=label, **look)


def bars(axes: Axes, _width_in: float, result: Result, best: Row) -> None:
    """Draw right answers of model and values with chance, and apart from them the four cells."""
    names = [(result.metric, "values right"), *RIGHT, *CELLS]
    for index, (y, (name, _)) in enumerate(zip(HEIGHTS, names, strict=True)):
        score = scored(best, name)
        color = COLORS[index] if index < len(names) - len(CELLS) else "#cccccc"
        look: dict[str, Any] = {
            "color": color,
            "hatch": HATCHES.get(name, ""),
            "edgecolor": "#555555",
            "linewidth": 0.5,
        }
        axes.barh(y, score.value, 0.75, **look)
        if isfinite(score.low):
            axes.hlines([y], [score.low], [score.high], colors=[INK], linewidth=0.9)
        end = max((bound for bound in score if isfinite(bound)), default=0.0)
        percent = in_words(result, score).split(" ")[0]
        axes.annotate(
            percent,
            (end, y),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL_PT,
        )
    chance = f"chance: {in_words(result, scored(best, 'chance'))} %"
    axes.vlines(best["chance"], *CHANCE, colors=[INK], linestyles="dashed", label=chance)
    mark_guesses(axes, best)
    axes.set_yticks(HEIGHTS, [label for _, label in names])
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="questions, %", ylim=(HEIGHTS[-1] + 0.6, -0.6))
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(metric_ticks(result))
