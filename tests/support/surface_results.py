"""Results of model and values together, of the shape that a plot meets."""

from __future__ import annotations

from kvtool.result import Result, Row
from tests.support.result_rows import about, interval

ACCURACIES = {
    "model": 0.33,
    "written": 0.31,
    "value": 0.52,
    "fused": 0.55,
    "either": 0.66,
    "permuted": 0.34,
}


def surface_result() -> Result:
    """Return accuracies of every condition, with differences to the model and chance."""
    rows: list[Row] = []
    for condition, accuracy in ACCURACIES.items():
        row: Row = {"condition": condition, **interval("accuracy", accuracy), "n": 200}
        row |= interval("difference", accuracy - ACCURACIES["model"])
        rows.append(row | {"chance": 0.25, "chance_kind": "guessing"})
    return about("surface", "accuracy", rows, task="semantic-correspondence", config={"seed": 0})
