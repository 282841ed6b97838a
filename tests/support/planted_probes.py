"""Kept probes made up for the viewer: scores of a few blocks beside chance."""

from __future__ import annotations

from typing import Any

from kvtool.result import Result, Row
from kvtool.store import Run, open_store

TASK = "planted-task"
CHANCE = 0.045


def block_row(
    kind: str, layer: int, head: int, score: float, metric: str = "pck_image", **fields: Any
) -> Row:
    """A row of a block: its score, 0.01 more and less as the interval, and chance of 0.045."""
    return {
        **{"kind": kind, "layer": layer, "kv_head": head, metric: score, "n": 9},
        **{f"{metric}_low": score - 0.01, f"{metric}_high": score + 0.01},
        **{"chance": CHANCE, "chance_low": 0.04, "chance_high": 0.05},
        **{"chance_kind": "random point", **fields},
    }


def keep_probe(run: Run, rows: list[Row], metric: str = "pck_image", **fields: Any) -> Result:
    """Keep a probe of these rows, of which the first is the best, in the store of a run."""
    verdict = {"exceeds_chance": True, "select": "max", "chance_difference": 0.062}
    config = {"run_hash": run.config.hash, "run": run.name}
    options: dict[str, Any] = {"best": {**rows[0], **verdict}, "config": config, **fields}
    result = Result("probe", TASK, metric, 9, rows, **options)
    open_store(run.store).save_result("planted", result.to_json())
    return result


def keep_usual_probe(run: Run) -> Result:
    """Keep a probe whose value layer 3 head 1 is best, layer 2 head 0 below chance, and whose
    vision tower, a baseline, gets more than any."""
    blocks = [("value", 3, 1, 0.107), ("value", 2, 0, 0.03), ("value", 2, 1, 0.0621)]
    tower = block_row("vision", 3, 0, 0.154, run=run.name)
    elsewhere = block_row("vision", 3, 0, 0.2, run="another")
    rows = [block_row(*block) for block in blocks]
    return keep_probe(run, rows, baselines=[tower, elsewhere])
