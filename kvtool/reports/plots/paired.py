"""The model beside its image values: shares of questions that both, one or neither has right (the paper's table 5)."""

from __future__ import annotations

from functools import partial
from math import isfinite

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvtool.errors import KvtoolError
from kvtool.reports.plots.panels import best_words, map_rows, over_maps
from kvtool.reports.plots.style import COLOURS, INK, SMALL_PT, in_words, metric_ticks, scored
from kvtool.reports.results import Result, Row
from kvtool.reports.tables import block_name

BARS_IN = 1.9
RIGHT = (("model", "model\nright"), ("union", "either\nright"))
CELLS = (("both", "both"), ("value_only", "values\nonly"), ("model_only", "model\nonly"), ("neither", "neither"))
HATCHES = {"both": "", "value_only": "////", "model_only": "\\\\\\\\", "neither": "...."}
PLACES = (0.0, 1.0, 2.0, 3.6, 4.6, 5.6, 6.6)
"""Of the bars; the cells, which add up to one, stand apart from what chance is a measure of."""
CHANCE = (-0.5, 2.5)


def draw(result: Result) -> Figure:
    """Bars of the best block, and the accuracy of every block's values."""
    best = result.best
    if best is None:
        raise KvtoolError("--plot: expected a best block, found none: no block's accuracy is defined")
    p = best["mcnemar_p"]
    words = [
        best_words(best, block_name(best), best["kind"] in map_rows(result.rows)),
        f"{best['n']} questions" if best["n"] != result.n else "",
        "" if p is None else f"McNemar p = {p:.3f}" if p >= 0.001 else f"McNemar p = {p:.0e}",
    ]
    return over_maps(result, result.rows, BARS_IN, partial(bars, result=result, best=best), words)


def bars(axes: Axes, _width_in: float, result: Result, best: Row) -> None:
    """Right answers of each with chance, and apart from them the four cells."""
    names = [(result.metric, "values\nright"), *RIGHT, *CELLS]
    for index, (place, (name, _)) in enumerate(zip(PLACES, names, strict=True)):
        found = scored(best, name)
        colour = COLOURS[index] if index < len(names) - len(CELLS) else "#cccccc"
        axes.bar(
            place, found.value, 0.75, color=colour, hatch=HATCHES.get(name, ""), edgecolor="#555555", linewidth=0.5
        )
        axes.vlines([place], [found.low], [found.high], colors=[INK], linewidth=0.9) if isfinite(found.low) else None
        over = max((each for each in found if isfinite(each)), default=0.0)
        percent = in_words(result, found).split(" ")[0]
        axes.annotate(percent, (place, over), (0, 2), textcoords="offset points", ha="center", fontsize=SMALL_PT)
    chance = f"chance: {in_words(result, scored(best, 'chance'))} %"
    axes.hlines(best["chance"], *CHANCE, colors=[INK], linestyles="dashed", label=chance)
    axes.set_xticks(PLACES, [label for _, label in names])
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="questions, %", xlim=(-0.6, 7.2))
    axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(metric_ticks(result))
