"""The page's article about a probe: heatmaps, the curve over layers, the best block beside the
baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import (
    STYLES,
    Article,
    baseline_label,
    clickable_blocks,
    is_grid,
    level_style,
)
from kvtool.reporting.chance import (
    NO_BETTER,
    against_chance,
    chance_level,
    chance_of,
    companions,
    guess_rows,
)
from kvtool.reporting.commands import DECODER, block_flags, flags
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.measures import short_measure
from kvtool.reporting.numbers import amount, better, interval, model_name, plural, relation, show
from kvtool.reporting.overview import leading_probes
from kvtool.reporting.sentences import against_baseline, best_block, leading_baselines
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, PageTable, scores_table
from kvtool.result import Result, Row, block_name, is_summary

CHAPTER = chapters.VALUES
TITLE = ""


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of a probe."""
    result = study.kept[position].result
    examples = study.examples.get(position, {})
    rows = [row for row in result.rows if is_summary(row) and "kv_head" in row]
    # A kind of a single block has no map and no curve: it is a level.
    kinds = [kind for kind in dict.fromkeys(row["kind"] for row in rows) if is_grid(rows, kind)]
    baselines = leading_baselines(result)
    series = [(kind, STYLES[kind], _of_kind(result.per_layer, kind)) for kind in kinds]
    has_curve = any(len(layer_rows) > 1 for _, _, layer_rows in series)
    levels = [(baseline_label(result, row), level_style(result, row), row) for row in baselines]
    return replace(
        summary,
        findings=list(sentences(result, study.of_command("compare"))),
        template="probe.html",
        n_leads=2 if against_chance(result) else 1,
        charts={
            "heatmaps": [heatmap(result, kind, _of_kind(rows, kind)) for kind in kinds],
            "curve": charts.layers_chart(result, series, [*levels, *_chance(result, result.metric)])
            if has_curve
            else None,
            "companions": [
                _companion(result, metric, kinds, rows)
                for metric in companions(result)
                if has_curve
            ],
        },
        tables=list(_tables(result, baselines, summary.rows, data)),
        blocks=clickable_blocks(result, examples),
    )


def overlay(results: Sequence[Result]) -> charts.LineChart | None:
    """Return the curves of several models over one task, their best block of each layer, with the
    baselines and the chance of the first; None where no model has several layers."""
    first = results[0]
    series = []
    for index, result in enumerate(results):
        # An encoder has no keys and values: the kind of its best block stands for them.
        kinds = [kind for kind in DECODER if _of_kind(result.per_layer, kind)]
        for kind in kinds or [str((result.best or {}).get("kind"))]:
            name = f"{model_name(result)}, {kind}, n = {result.n}"
            style = f"m{index % 8}{' keys' * (kind == 'key')}"
            series.append((name, style, _of_kind(result.per_layer, kind)))
    if all(len(rows) < 2 for _, _, rows in series):
        return None
    levels = [
        (baseline_label(first, row), level_style(first, row), row)
        for row in leading_baselines(first)
    ]
    chart = charts.layers_chart(first, series, [*levels, *_chance(first, first.metric)])
    # Bands of several models would hide each other: points say their intervals.
    plain = [replace(line, band="") if index else line for index, line in enumerate(chart.lines)]
    return replace(chart, lines=plain)


def headline(results: Sequence[Result]) -> str | None:
    """Say in how many tasks the best block exceeds chance and the features that the decoder is
    given, of the model with most probes; of a single probe whether its best block does."""
    probes = leading_probes(results)
    verdicts = [(result.best or {}).get("exceeds_chance") for result in probes]
    judgments = [verdict for verdict in verdicts if verdict is not None]
    if not judgments:
        return None
    if len(probes) == 1:
        return _single_headline(probes[0])
    text = (
        f"The best block of {model_name(probes[0])} scores better than chance in {sum(judgments)} "
        f"of {plural(len(judgments), 'probe')}"
    )
    # Features of other models are no input of this decoder.
    sides = [
        relation(result.best or {}, row, result.metric) == better(result)
        for result in probes
        for row in leading_baselines(result)
        if row["kind"] == "projected" and row.get("run") in (None, result.config.get("run"))
    ]
    if sides:
        text += (
            f", and better than the projected features it is given in {sum(sides)} of {len(sides)}"
        )
    return f"{text}."


def _single_headline(result: Result) -> str:
    """Say what the best block of a probe scores, and whether that exceeds chance."""
    best = result.best or {}
    side = f"{better(result)} chance" if best["exceeds_chance"] else NO_BETTER
    level = str(chance_of(result, best))
    if (maximum := best.get("chance_max")) is not None:
        # Its interval alone would hide that the best of many blocks is high by luck, too.
        level += f"; the best of as many blocks that know nothing {show(result, maximum)}"
    return (
        f"The best block of {model_name(result)}, {block_name(best)}, scores "
        f"{amount(result, best)} ({short_measure(result.metric)}, n = {best['n']}), {side} "
        f"({level})."
    )


def _tables(result: Result, baselines: Sequence[Row], rows: str, data: Data) -> Iterator[PageTable]:
    """Yield the best block beside baselines and guesses, then the best block of each layer.

    `rows` is the name of the result's rows, by which those of the tables are called.
    """
    best = [] if result.best is None else [(f"best: {block_name(result.best)}", result.best)]
    guesses = guess_rows(result)
    labeled = [*best, *((baseline_label(result, row), row) for row in baselines), *guesses]
    name = data.add(f"{rows}-best", [row for _, row in labeled])
    yield scores_table(result, labeled, "Best block and baselines", name)
    if result.per_layer:
        layer_rows = [(block_name(row), row) for row in result.per_layer]
        name = data.add(f"{rows}-per-layer", result.per_layer)
        yield scores_table(result, layer_rows, "Best block of each layer", name)


def _chance(result: Result, metric: str) -> list[tuple[str, str, Row]]:
    """Return the level of what knows nothing, as a chart takes it."""
    level = chance_level(result, metric)
    return [] if level is None else [(level[0], "s-other s-dashed", level[1])]


def _companion(
    result: Result, metric: str, kinds: Sequence[str], rows: Sequence[Row]
) -> charts.LineChart:
    """Return the curve of a measure without a cut, the best block of each layer by it."""
    by_metric = replace(result, metric=metric, higher_is_better=True)
    series = []
    for kind in kinds:
        layers: dict[int, list[Row]] = {}
        for row in _of_kind(rows, kind):
            layers.setdefault(row["layer"], []).append(row)
        bests = (by_metric.best_of(layer_rows) for layer_rows in layers.values())
        series.append((kind, STYLES[kind], [row for row in bests if row is not None]))
    return charts.layers_chart(by_metric, series, _chance(result, metric))


def _of_kind(rows: Sequence[Row], kind: str) -> list[Row]:
    """Return the rows of a kind."""
    return [row for row in rows if row["kind"] == kind]


def last_layer(result: Result) -> str | None:
    """Set the last layer's best block beside the best of all.

    It is None where they are one, or of several kinds.
    """
    best = result.best
    # A best block of one half cannot be set beside rows of all units.
    if best is None or best.get("select") == "split":
        return None
    kind_rows = [row for row in result.per_layer if row["kind"] == best["kind"]]
    last = max(kind_rows, key=lambda row: int(row["layer"]), default=None)
    if last is None or last["layer"] == best["layer"] or last.get(result.metric) is None:
        return None
    what = f"the last layer's best ({block_name(last)}), {interval(result, last)}"
    match relation(best, last, result.metric):
        case side if side == better(result):
            return f"The best is {side} {what}."
        case "not distinguishable":
            return f"It is not distinguishable from {what}."
    return None


def sentences(result: Result, compared: Sequence[Result] = ()) -> Iterator[str]:
    """Say what the probe shows, a sentence each; `compared` are paired comparisons of runs."""
    yield best_block(result)
    best = result.best
    if best is None or best.get(result.metric) is None:
        return
    if (line := against_chance(result)) is not None:
        yield line
    if (line := last_layer(result)) is not None:
        yield line
    for row in leading_baselines(result):
        yield against_baseline(result, best, row, compared)


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    arguments = ["probe", stored.store, str(stored.result.task), *flags({"run": config.get("run")})]
    arguments += block_flags(config.get("blocks", []), info)
    arguments += flags(
        {"select": config.get("select"), "seed": config.get("seed")}, {"select": "max", "seed": 0}
    )
    return arguments + flags(config.get("options", {}))
