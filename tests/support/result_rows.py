"""Rows of results, and what every result says of its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvtool.result import Result, Row, best_row

MODEL = "llava-hf/llava-onevision-qwen2-7b-ov-hf"


def about(
    command: str,
    metric: str,
    rows: list[Row],
    *,
    task: str | None = None,
    n: int = 200,
    **fields: Any,
) -> Result:
    config = {"run": "r", "model": MODEL, "dataset": "spair71k", "split": "test"} | fields.pop(
        "config", {}
    )
    return Result(
        command=command, task=task, metric=metric, n=n, rows=rows, config=config, **fields
    )


def interval(name: str, value: float | None, half: float = 0.04) -> Row:
    low, high = (None, None) if value is None else (value - half, value + half)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def block(kind: str, layer: int, head: int, metric: str, value: float | None, **labels: Any) -> Row:
    return {
        "kind": kind,
        "layer": layer,
        "kv_head": head,
        **labels,
        **interval(metric, value),
        "n": 200,
    }


def per_layer(rows: Sequence[Row], metric: str) -> list[Row]:
    groups = dict.fromkeys((row["kind"], row["layer"]) for row in rows)
    best = [
        best_row([r for r in rows if (r["kind"], r["layer"]) == group], metric) for group in groups
    ]
    return [row for row in best if row is not None]
