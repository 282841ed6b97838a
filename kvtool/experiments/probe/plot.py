"""Scores of a task over layers: the best of each layer beside the baselines, and every head.

See the paper's figures 2 and 5 to 13.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kvtool.reporting.chance import NO_BETTER, chance_level, companions, is_no_better
from kvtool.reporting.numbers import in_percent, unit_word
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.panels import DECODER, best_words, main_kinds, map_rows, over_maps
from kvtool.reporting.plots.style import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    PALE,
    in_words,
    metric_label,
    metric_ticks,
    points,
    scored,
)
from kvtool.result import Result, Row, block_name, is_summary
from kvtool.store.places import folder_name

CURVE_IN = 1.7
LOOKS = {"value": 0, "key": 1}
"""The color and marker of a kind, alone or beside the other."""
APART = 0.16
"""Layers between the curves of two kinds, so that their intervals do not hide each other."""


def draw(result: Result) -> Figure:
    """Draw the curves of all kinds in one panel, and a map for each kind of more than one block."""
    blocks = [row for row in result.rows if is_summary(row) and "kv_head" in row]
    best = result.best
    mapped = best is not None and best["kind"] in map_rows(blocks)
    notes = [best_words(best, block_name(best or {}), mapped)]
    if best is not None:
        score = in_words(result, scored(best, result.metric))
        notes.append(f"{score} {unit_word(result)}".rstrip())
    if is_no_better(result):
        notes.append(NO_BETTER)
    return over_maps(result, blocks, CURVE_IN, partial(curves, result=result, blocks=blocks), notes)


def curves(axes: Axes, width_in: float, result: Result, blocks: Sequence[Row]) -> None:
    """Draw the best of each layer, and horizontal lines for the baselines."""
    kinds = main_kinds(blocks)
    for index, kind in enumerate(kinds):
        best = {row["layer"]: row for row in result.per_layer if row["kind"] == kind}
        # A layer that was scored and is defined for no head is a gap.
        layers = sorted({row["layer"] for row in blocks if row["kind"] == kind})
        positions = [layer + APART * (index - (len(kinds) - 1) / 2) for layer in layers]
        style = LOOKS.get(kind, 0)
        look: dict[str, Any] = {"color": COLORS[style], "marker": MARKERS[style], "zorder": 3}
        label = f"{kind}, best head of each layer" if kind in DECODER else kind
        points(
            axes,
            positions,
            [scored(best.get(layer, {}), result.metric) for layer in layers],
            label=label,
            **look,
        )
    for index, (name, row) in enumerate(baselines(result, kinds)):
        score = scored(row, result.metric)
        color = COLORS[(index + len(LOOKS)) % len(COLORS)]
        label = f"{name}: {in_words(result, score)}"
        axes.axhline(score.value, color=color, linestyle=DASHES[index % len(DASHES)], label=label)
    draw_chance(axes, result, result.metric, color=INK)
    if "auroc" in companions(result) and in_percent(result):
        draw_auroc(axes, result, [row for row in blocks if row["kind"] == kinds[0]])
    layers = [row["layer"] for row in blocks if row["kind"] in kinds]
    axes.set(
        xlim=(min(layers) - 0.5, max(layers) + 0.5), ylabel=metric_label(result, result.metric)
    )
    axes.set_xticks(heatmap.ticks(layers, (width_in - heatmap.BESIDE_IN) / heatmap.span(layers)))
    axes.yaxis.set_major_formatter(metric_ticks(result))
    if not map_rows(blocks):
        axes.set_xlabel(f"layer, {', '.join(kinds)}")


def draw_chance(axes: Axes, result: Result, metric: str, color: str) -> None:
    """Draw a line at what knows nothing gets, where that is known."""
    level = chance_level(result, metric)
    if level is None or level[1].get(metric) is None:
        return
    score = scored(level[1], metric)
    name = level[0] if metric == result.metric else f"chance, {metric}"
    label = f"{name}: {in_words(replace(result, metric=metric), score)}"
    axes.axhline(score.value, color=color, linewidth=0.8, linestyle=(0, (1, 2)), label=label)


def draw_auroc(axes: Axes, result: Result, rows: Sequence[Row]) -> None:
    """Draw the best area under the ROC curve of each layer, the companion that needs no cut."""
    by_auroc = replace(result, metric="auroc", higher_is_better=True)
    layers = sorted({row["layer"] for row in rows})
    bests = [by_auroc.best_of([row for row in rows if row["layer"] == layer]) for layer in layers]
    label = f"auroc{' × 100' * in_percent(result)}, best of each layer"
    intervals = [scored(row or {}, "auroc") for row in bests]
    points(axes, layers, intervals, label=label, color=PALE, marker="x", zorder=2)
    draw_chance(axes, result, "auroc", color=PALE)


def baselines(result: Result, curve_kinds: Sequence[str]) -> list[tuple[str, Row]]:
    """Return the best of each run's projected and vision blocks without a curve, and its label."""
    this_run = result.config.get("run")
    groups: dict[tuple[Any, Any], list[Row]] = {}
    # Kinds that have a curve of their own need no line.
    for row in result.baselines:
        if row.get("run") != this_run or row["kind"] not in curve_kinds:
            groups.setdefault((row.get("run"), row["kind"]), []).append(row)
    rows = [result.best_of(group) or group[0] for group in groups.values()]
    names = [
        block_name(row) + (f", {folder_name(row['model'])}" if row.get("run") != this_run else "")
        for row in rows
    ]
    times = Counter(names)
    return [
        (f"{name}, {row['run']}" if times[name] > 1 else name, row)
        for name, row in zip(names, rows, strict=True)
    ]
