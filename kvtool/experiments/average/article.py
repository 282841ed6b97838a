"""The page's article about averages over tasks: curves, maps, and each task's best block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article, clickable_blocks, is_grid
from kvtool.reporting.averages import (
    averaged_subsets,
    best_of_subset,
    models_of,
    rows_of,
    tasks_of_subset,
)
from kvtool.reporting.chance import against_chance
from kvtool.reporting.commands import flags, request_flags
from kvtool.reporting.heatmap import Heatmap, heatmap
from kvtool.reporting.numbers import amount, plural
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, PageTable, scores_table
from kvtool.result import Result, Row, block_name

CHAPTER = chapters.VALUES
TITLE = "Averages over tasks"

STYLES = tuple(f"m{index}" for index in range(8))
ENDS = ("", "_low", "_high")


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of an average."""
    result = study.kept[position].result
    return replace(
        summary,
        template="average.html",
        n_leads=len(summary.findings),
        charts={
            "curve": _curve(result),
            "heatmaps": list(_maps(result)),
        },
        tables=list(_tables(result, summary, data)),
        blocks=clickable_blocks(result, {}),
    )


def _curve(result: Result) -> charts.LineChart:
    """Return the best head of each layer by the mean of each set, a line for each model and set,
    with the chance of each set of the first model."""
    models = models_of(result)
    series: list[tuple[str, str, list[Row]]] = []
    levels: list[tuple[str, str, Row]] = []
    for subset in averaged_subsets(result):
        for model in models:
            rows = rows_of(result.per_layer, model, subset)
            kind = next((row["kind"] for row in rows if row["kind"] in ("value", "key")), None)
            lines = [row for row in rows if kind is None or row["kind"] == kind]
            count = plural(tasks_of_subset(result, subset, model), "task")
            owner = f"{model}: " if len(models) > 1 else ""
            style = STYLES[len(series) % len(STYLES)]
            series.append((f"{owner}{subset}, mean of {count}", style, lines))
        # Chance is that of the set's first model: models are scored on the same images.
        first = next(iter(rows_of(result.rows, models[0], subset)), {})
        if first.get("chance") is not None:
            level = {result.metric + end: first.get("chance" + end) for end in ENDS}
            style = STYLES[(len(series) - len(models)) % len(STYLES)]
            levels.append((f"chance, {subset}", f"{style} s-dashed", level))
    return charts.layers_chart(result, series, levels)


def _maps(result: Result) -> Iterator[Heatmap]:
    """Yield a map for each model, set and kind of more than one block."""
    for model in models_of(result):
        for subset in averaged_subsets(result):
            rows = rows_of(result.rows, model, subset)
            for kind in dict.fromkeys(row["kind"] for row in rows):
                if is_grid(rows, kind):
                    chart = heatmap(result, kind, [row for row in rows if row["kind"] == kind])
                    yield replace(chart, caption=f"{model}, {subset}, {chart.caption}")


def _tables(result: Result, summary: Article, data: Data) -> Iterator[PageTable]:
    """Yield the best block of each task with their means, and the blocks of the best mean."""
    bests = [(f"{row['model']}: {row['subset']}", row) for row in result.items]
    name = data.add(f"{summary.rows}-tasks", result.items)
    yield scores_table(result, bests, "Best block of each task, and the means of these bests", name)
    leading = [
        (f"{model}: {subset}, {block_name(best)}", best)
        for model in models_of(result)
        for subset in averaged_subsets(result)
        if (best := best_of_subset(result, model, subset)) is not None
    ]
    name = data.add(f"{summary.rows}-best", [row for _, row in leading])
    yield scores_table(result, leading, "Blocks of the best mean", name)
    if result.baselines:
        labeled = [
            (f"{row['average_of']}: {row['subset']}, {row['model']}, {block_name(row)}", row)
            for row in result.baselines
        ]
        name = data.add(f"{summary.rows}-baselines", result.baselines)
        yield scores_table(result, labeled, "Baselines, over the tasks that have them", name)


def sentences(result: Result) -> Iterator[str]:
    """Say what the averages show, a sentence each."""
    for model in models_of(result):
        for subset in averaged_subsets(result):
            best = best_of_subset(result, model, subset)
            if best is not None:
                tasks = plural(tasks_of_subset(result, subset, model), "task")
                subject = f"Over {tasks} ({subset}) the block of {model} with the best mean"
                guess = amount(result, best, "chance") if best.get("chance") is not None else "-"
                yield f"{subject} is {block_name(best)}: {amount(result, best)}, chance {guess}."
    if result.best is not None:
        yield "Optimistic: these were chosen as the best on the same data that they are scored on."
    if (line := against_chance(result)) is not None:
        yield f"The best by the mean of all tasks: {line[:1].lower()}{line[1:]}"


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    probes = [probe for model in config.get("models", []) for probe in model["probes"]]
    task_options: dict[str, Any] = {}
    for options in (config.get("options") or {}).values():
        task_options |= options
    values = {
        "models": ",".join(model["name"] for model in config.get("models", [])) or None,
        "tasks": ",".join(dict.fromkeys(probe["task"] for probe in probes)) or None,
        **{name: config.get(name) for name in ("select", "seed")},
        **task_options,
    }
    arguments = ["average", stored.store, *request_flags(config.get("request") or {})]
    return arguments + flags(values, {"select": "max", "seed": 0})
