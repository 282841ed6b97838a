"""The page's article about attention: where heads look, whether they find objects, and what sinks
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kvtool.reporting import chapters
from kvtool.reporting.articles import Article, clickable_blocks
from kvtool.reporting.commands import flags
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.measures import plain_name
from kvtool.reporting.numbers import amount, gap, plural, probability, ranges, show
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.result import Result, Row

CHAPTER = chapters.ATTENTION
TITLE = "Where texts look"

QUERY = "query"
"""The kind by which the page names query heads."""
MAPS = ("auroc", "mass", "sink_share")
SINK_MAPS = ("sink_share", "mass", "overlap")
LEVELS = {"auroc": "chance", "overlap": "overlap_chance"}
"""The field of a row that says what a measure has by chance."""
DEFAULTS: dict[str, Any] = {"from": "last", "localization": 3, "max_new_tokens": 16, "seed": 0}
WORDS = {
    "mass": "the attention that it draws",
    "sink_share": "the share of the strongest tokens in its attention",
    "overlap": "the share of sinks that two pictures have in common",
    "border": "the share of sinks on the border",
    "key_norm_ratio": "the length of keys at sinks",
    "value_norm_ratio": "the length of values at sinks",
    "value_dependence": "the dependence of the value at sinks on the picture",
    "peak": "the height of the largest dimension of the stream at sinks",
}
"""What the measures of a key's sinks are, in words."""


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of attention, or of sinks."""
    result = study.kept[position].result
    is_sinks = result.task == "sinks"
    # Maps of the page name a head by kv_head: query heads take its place.
    rows = result.rows if is_sinks else list(map(_query_row, result.rows))
    names = SINK_MAPS if is_sinks else MAPS
    measures = [name for name in names if any(row.get(name) is not None for row in rows)]
    kind = "key" if is_sinks else QUERY
    page_result = replace(result, rows=rows, best=result.best_of(rows))
    heatmaps = [
        heatmap(replace(page_result, metric=name), kind, level_rows(rows, name))
        for name in measures
    ]
    tables = [
        plain_table(list(entries), title, data.add(f"{summary.rows}-{name}", list(entries)))
        for name, title, entries in _entries(result)
        if entries
    ]
    return replace(
        summary,
        template="attend.html",
        rows=data.add(f"{summary.rows}-heads", rows),
        charts={"heatmaps": heatmaps},
        tables=tables,
        blocks=clickable_blocks(page_result, {}) | {"best": None},
    )


def level_rows(rows: Sequence[Row], measure: str) -> list[Row]:
    """Return rows whose `chance` is that of a measure; None where nothing is known of it."""
    # The chance of a row is AUROC's, and no level for how much a head looks at the picture.
    field = LEVELS.get(measure)
    return [{**row, "chance": row.get(field) if field else None} for row in rows]


def _query_row(row: Row) -> Row:
    """Return a row by which the page finds a query head, where it looks for a block."""
    return {**row, "kind": QUERY, "kv_head": row["q_head"], "shared_key": row["kv_head"]}


def _entries(result: Result) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield the tables of an article: a name, a title and rows."""
    config = result.config
    if result.task == "sinks":
        yield "correlations", "Variance of keys with what is known of sinks", config["correlations"]
        yield "agnostic", "Input-agnostic keys and the others", config["agnostic"]
        return
    yield "localization", "Localization heads", config["localization"]["heads"]


def headline(results: Sequence[Result]) -> str | None:
    """Say the first sentence about the attention of texts, and leave sinks to their panel."""
    texts = [result for result in results if result.task != "sinks"]
    return next(sentences(texts[0]), None) if len(results) > 1 and texts else None


def sentences(result: Result) -> Iterator[str]:
    """Say what was found, a sentence each."""
    if result.task == "sinks":
        yield from _sink_sentences(result)
        return
    config = result.config
    if (best_head := config["chosen_head"]) is not None:
        head = f"The head that finds objects best on half of the pictures, {_head(best_head)}"
        yield _found(result, best_head, head, "on the other half")
    localization = config["localization"]
    if localization.get("auroc") is not None:
        heads = ", ".join(map(_head, localization["heads"]))
        subject = f"The localization heads ({heads}), chosen without masks"
        yield _found(result, localization, subject, "together")
    if localization.get("segmentation"):
        yield _segmentation(result, localization["segmentation"])
    masses = [row["mass"] for row in result.rows if row["mass"] is not None]
    if masses:
        strongest = max(result.rows, key=lambda row: float(row["mass"] or 0))
        average = show(result, float(np.mean(masses)), metric="mass")
        yield (
            f"On average over heads {average} % of the attention lies "
            f"on the picture; most in {_head(strongest)}: {amount(result, strongest, 'mass')}."
        )


def _head(row: Row) -> str:
    return f"layer {row['layer']} head {row['q_head']}"


def _found(result: Result, row: Row, subject: str, scope: str) -> str:
    """Say whether a map tells objects from what is around them, better than the objects of other
    pictures do.
    """
    permuted = row["auroc_permuted"]
    # A map has to beat chance and the objects of other pictures, whichever is higher.
    floor = max(row["chance"], permuted if permuted is not None else row["chance"])
    low, high = row["auroc_low"], row["auroc_high"]
    is_single = subject.startswith("The head")
    finding = "cannot be told to find them"
    if low is not None and low > floor:
        finding = f"find{'s' * is_single} them"
    elif high is not None and high < row["chance"]:
        finding = f"{'is' if is_single else 'are'} below chance"
    return (
        f"{subject}, {finding} {scope}: AUROC {amount(result, row, 'auroc')}, chance "
        f"{show(result, row['chance'], metric='auroc')}, objects of other pictures "
        f"{show(result, permuted, metric='auroc')}."
    )


def _segmentation(result: Result, row: Row) -> str:
    """Set masks cut from attention beside those of values and of what knows nothing."""
    metric = row["metric"]
    text = (
        f"Cut out of their map, objects have {amount(result, row, metric)} "
        f"{plain_name(metric)}; what "
        f"knows nothing has {show(result, row['chance'], metric=metric)} "
        f"({row.get('chance_kind', 'unknown')})"
    )
    values = row["values"]
    if not values or metric not in values:
        return f"{text}."
    block = f"layer {values['layer']} head {values['kv_head']}"
    return (
        f"{text}, the values of {block} {amount(result, values, metric)}: attention less values "
        f"is {gap(result, values)}."
    )


def _sink_sentences(result: Result) -> Iterator[str]:
    """Say which tokens are sinks and what they have to do with input-agnostic keys."""
    rows = result.rows
    share = _average(rows, "sink_share")
    yield (
        f"The strongest 1 % of image tokens draw {show(result, share)} % of the attention on the "
        f"picture, on average over {plural(len(rows), 'key')}; most where "
        f"{_key(result.best or rows[0])}."
    )
    overlap, chance = _average(rows, "overlap"), rows[0]["overlap_chance"]
    if overlap is not None and chance is not None:
        yield (
            f"Two pictures share {show(result, overlap)} % of them (at random "
            f"{show(result, chance)} %), and {show(result, _average(rows, 'border'))} % lie on the "
            f"border of the grid, which has {show(result, rows[0]['border_chance'])} % of the "
            "tokens."
        )
    for row in result.config["correlations"]:
        if row["holm_p"] < SURE:
            direction = "higher" if row["rho"] > 0 else "lower"
            yield (
                f"The more a key varies over pictures, the {direction} is {WORDS[row['measure']]}: "
                f"rho {row['rho']:.2f} [{row['rho_low']:.2f}, {row['rho_high']:.2f}] over "
                f"{row['n']} keys, {probability(row['holm_p'])} by Holm."
            )
    yield from _agnostic(result)


def _agnostic(result: Result) -> Iterator[str]:
    """Set input-agnostic keys beside the others."""
    compared = result.config["agnostic"]
    if not compared:
        yield "No keys are told apart as input-agnostic and others, so that none are compared."
    for row in compared:
        certainty = probability(row["holm_p"])
        differs = "differ" if row["holm_p"] < SURE else "do not differ that it could be told"
        yield (
            f"Input-agnostic keys and the others {differs} in {WORDS[row['measure']]}: "
            f"{row['agnostic']:.3g} and {row['others']:.3g}, {certainty} by Holm."
        )


def _key(row: Row) -> str:
    return f"layer {row['layer']} head {row['kv_head']} is the key"


def _average(rows: list[Row], name: str) -> float | None:
    """Return the mean of a field over the rows that have it."""
    defined = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(defined)) if defined else None


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    depth = None if info is None else info.get("depth")
    # Layers that are all of the run's need no flag.
    is_whole = depth is not None and config["layers"] == list(range(depth))
    values = {
        "run": config.get("run"),
        "question": config.get("question"),
        "image": ",".join(config["image"]) if config.get("image") else None,
        "benchmark": config.get("benchmark"),
        "expressions": config.get("expressions"),
        "sinks": config.get("sinks", False),
        "from": config.get("from"),
        "layers": None if is_whole else ranges(config["layers"]),
        "localization": config.get("localization_heads"),
        "limit": config.get("limit"),
        "max_new_tokens": config.get("max_new_tokens"),
        "seed": config.get("seed"),
    }
    return ["attend", stored.store, *flags(values, DEFAULTS)]
