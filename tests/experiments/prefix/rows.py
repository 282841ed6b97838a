"""Rows of a comparison of prefixes, the blocks that they name, and a score to compare."""

from __future__ import annotations

from kvtool.result import Result, Row
from kvtool.tasks.base import Array


def row_of(result: Result, condition: str, choice: str) -> Row:
    (row,) = [
        row for row in result.rows if (row["condition"], row["choice"]) == (condition, choice)
    ]
    return row


def block(row: Row) -> tuple[int, int]:
    assert row["kind"] == "value"
    return row["layer"], row["kv_head"]


def mean_score(sums: Array) -> dict[str, Array]:
    return {"score": sums[..., 0] / sums[..., 1]}
