"""What kept results of a run say of its blocks, and of the features of SAEs on its images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kvtool.reporting.chance import against_chance, level_row
from kvtool.reporting.measures import short_measure
from kvtool.reporting.numbers import interval, show, unit_word
from kvtool.result import Result, Row, is_summary
from kvtool.store.kept import extent
from kvtool.viewer.viewed_run import ViewedRun


def scores_record(viewed: ViewedRun) -> dict[str, Any]:
    """Return the scores of all blocks in the kept probes of a run, of each task the largest."""
    probes: dict[str, Result] = {}
    for result in viewed.results:
        if result.command == "probe" and result.task:
            before = probes.get(result.task)
            if before is None or extent(result) > extent(before):
                probes[result.task] = result
    return {"scores": [_probe_record(task, result) for task, result in sorted(probes.items())]}


def _probe_record(task: str, result: Result) -> dict[str, Any]:
    """Return the scores of one probe, numbers as the terminal and the page write them.

    blocks, baselines: of each block its kind, layer and head, the score, the score as text without
    and with its interval, and whether knowing nothing of the images does better. best: the block
    that the probe names. chance: what knowing nothing gets, of each kind. verdict: what is to be
    said of the best block and chance.
    """
    scored = [row for row in result.rows if _is_scored(row, result)]
    # A block of the run is no baseline of itself.
    blocks = {_block(row): row for row in scored}
    baseline_rows = {_block(row): row for row in result.baselines if _is_scored(row, result)}
    baselines = [row for block, row in baseline_rows.items() if block not in blocks]
    return {
        "task": task,
        "metric": short_measure(result.metric),
        "unit": unit_word(result),
        "higher_is_better": result.higher_is_better,
        "blocks": [_scored_block(result, row) for row in blocks.values()],
        "baselines": [_scored_block(result, row) for row in baselines],
        "best": _best_record(result),
        "chance": _chance_record(result, [*blocks.values(), *baselines]),
        "verdict": against_chance(result),
    }


def _block(row: Row) -> tuple[str, int, int]:
    """Return what names a row's block."""
    return row["kind"], row["layer"], row["kv_head"]


def _scored_block(result: Result, row: Row) -> list[Any]:
    """Return a block with its score, see _probe_record."""
    score, chance = row[result.metric], row.get("chance")
    difference = 0.0 if chance is None else score - chance
    is_worse = difference < 0 if result.higher_is_better else difference > 0
    texts = show(result, score), interval(result, row)
    return [*_block(row), round(float(score), 6), *texts, is_worse]


def _best_record(result: Result) -> dict[str, Any] | None:
    """Return the block that a probe names as the best, with its score as text."""
    best = result.best
    if best is None or best.get(result.metric) is None:
        return None
    is_split = best.get("select") == "split"
    return {
        "block": list(_block(best)),
        "text": interval(result, best),
        "choice": f"chosen on the other half, n = {best['n']} of {result.n}" if is_split else "",
    }


def _chance_record(result: Result, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what knowing nothing gets, by the kind of block; of some kinds it may be unknown."""
    levels = {
        kind: level_row(result, [row for row in rows if row["kind"] == kind])
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    return {
        kind: {"name": level[0], "text": show(result, level[1][result.metric])}
        for kind, level in levels.items()
        if level
    }


def _is_scored(row: Row, result: Result) -> bool:
    """Return whether a row gives a block of this run a score."""
    score = row.get(result.metric)
    return (
        is_summary(row)
        and row.get("run") in (None, result.config.get("run"))
        and row.get("kind") is not None
        and score is not None
        and math.isfinite(score)
    )


def features_record(viewed: ViewedRun, image: str) -> dict[str, Any]:
    """Return the features that kept results of `kvtool sae` have of an image, the strongest first,
    and the images that have some.
    """
    items = [
        item
        for result in viewed.results
        if result.command == "sae"
        for item in result.items
        if item.get("image") in viewed.samples and item.get("cells")
    ]
    # A feature of an image stands once, though several results may have it: the newest comes first.
    unique: dict[tuple[Any, ...], Row] = {}
    for item in items:
        key = (item["layer"], item["sae"], item["feature"], item["image"])
        unique.setdefault(key, item)
    features = [item for item in unique.values() if item["image"] == image]
    return {
        "images": list(dict.fromkeys(item["image"] for item in unique.values())),
        "features": sorted(features, key=lambda item: -item["activation"]),
    }
