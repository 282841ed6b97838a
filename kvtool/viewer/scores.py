"""What kept results of a run say of its blocks, and of the features of SAEs on its images."""

from __future__ import annotations

import math
from typing import Any

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
    """Return the scores of one probe."""
    rows = [row for row in (*result.rows, *result.baselines) if _is_scored(row, result)]
    return {
        "task": task,
        "metric": result.metric,
        "higher_is_better": result.higher_is_better,
        "blocks": [
            [row["kind"], row["layer"], row["kv_head"], round(float(row[result.metric]), 6)]
            for row in rows
        ],
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
    """Return the features that kept results of `kvtool sae` have of an image, and the images that
    have some.
    """
    items = [
        item
        for result in viewed.results
        if result.command == "sae"
        for item in result.items
        if item.get("image") in viewed.samples and item.get("cells")
    ]
    unique = {(item["layer"], item["sae"], item["feature"], item["image"]): item for item in items}
    return {
        "images": list(dict.fromkeys(item["image"] for item in unique.values())),
        "features": [item for item in unique.values() if item["image"] == image],
    }
