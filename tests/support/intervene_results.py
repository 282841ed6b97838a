"""Results of interventions, of the shape that a plot meets."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.result import Result, Row
from tests.support.result_rows import about, interval

METHODS = ("block", "scale:0.5", "redistribute:0.5", "mean-key")


def intervene_result(parts: Sequence[str] = ("random", "popular"), label: str = "file") -> Result:
    """Return scores and margins of methods and a control of each, two draws of it."""
    rows: list[Row] = []
    for index, condition in enumerate(("none", *METHODS)):
        row: Row = {"condition": condition, "n_heads": 4 * (index > 0)}
        if index:
            name, _, strength = condition.partition(":")
            row |= {"method": name, "strength": float(strength) if strength else None}
        rows += _rows(row, 0.8 - 0.05 * index, parts, label)
        if index:
            control = {**row, "condition": f"{condition} random", "control": "random"}
            rows += _rows(control | {"draw": "all"}, 0.79, parts, label)
            rows += [
                control | {"draw": draw, **interval("f1", 0.78 + 0.02 * draw), "n": 900}
                for draw in range(2)
            ]
    config = {"dataset": "pope", "notes": [], "methods": list(METHODS), "heads": "all"}
    return about("intervene", "f1", rows, task="pope", n=900, config=config)


def _rows(row: Row, score: float, parts: Sequence[str], label: str) -> list[Row]:
    """Return the row of all questions, with margins, and one for each part."""
    total = row | interval("f1", score) | interval("margin", 1.5) | {"n": 900, "n_margins": 900}
    if row["condition"] != "none":
        total |= interval("margin_change", score - 0.8)
    return [total, *(row | {label: part, **interval("f1", score), "n": 450} for part in parts)]
