"""The image tokens of several models in the features of language, on one pair of axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from kvtool.experiments.sae.alignment import CHANCE
from kvtool.experiments.sae.series import IMAGE, SOUGHT, is_defined, series_of
from kvtool.reporting import charts
from kvtool.reporting.numbers import model_name
from kvtool.result import Result

OVERLAY_CAPTION = "of the image's tokens; the band is a 95 % interval, chance is 0.5"


def overlay_key(result: Result) -> tuple[str, ...]:
    """Return what results must share to lie on one pair of axes: whether words have directions,
    which every model has them for, else whether an SAE was used.
    """
    return tuple(field for field in reversed(SOUGHT) if is_defined(result, field))[:1]


def overlay(results: Sequence[Result]) -> charts.LineChart | None:
    """Return how well words find their patches over layers, a line a model; None where the results
    have no measure in common, or no model has several layers."""
    # One measure for all models, the first of a fixed order that each of them has.
    shared = [name for name in SOUGHT if all(is_defined(result, name) for result in results)]
    series = [
        (_name(result, line.name), f"m{index % 8}", list(line.rows))
        for index, result in enumerate(results)
        for line in series_of(result)
        if line.condition == IMAGE
    ]
    counts = Counter(name for name, _, _ in series)
    series = [
        # Results of one model, by several SAEs, are numbered as their details stand below.
        (name if counts[name] == 1 else f"{name} ({number})", style, rows)
        for number, (name, style, rows) in enumerate(series, start=1)
    ]
    if not shared or all(len(rows) < 2 for _, _, rows in series):
        return None
    field = shared[0]
    by_field = replace(results[0], metric=field, unit=field)
    levels = [("chance", "s-other s-dashed", {field: CHANCE})]
    chart = charts.layers_chart(by_field, series, levels)
    # Bands of several models would hide each other: points say their intervals.
    lines = [replace(line, band="") if index else line for index, line in enumerate(chart.lines)]
    return replace(chart, lines=lines)


def _name(result: Result, line: str) -> str:
    """Return the name of a line: the model's, and the run's and the SAE's where it has several."""
    return ", ".join(filter(None, [model_name(result), line.partition(", ")[2], f"n = {result.n}"]))
