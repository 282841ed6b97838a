"""What the conditions of `kvtool surface` are called, and their rows."""

from __future__ import annotations

from kvtool.result import Result, Row

NAMES = {
    "model": "model",
    "written": "as written",
    "value": "values",
    "fused": "model and values",
    "either": "either right",
    "permuted": "permuted values",
}

LABELS = {
    "model": "the model's likeliest option",
    "written": "the model as it writes",
    "value": "its values alone",
    "fused": "model and values together",
    "either": "either of both right",
    "permuted": "together, values of other questions",
}
"""The conditions where there is room for what they are."""


def label(row: Row) -> str:
    """Return the name of a condition in a figure."""
    name = str(row["condition"])
    return LABELS.get(name, name)


def summary_rows(result: Result) -> list[Row]:
    """Return the rows about all questions, in their order."""
    return [row for row in result.rows if "subset" not in row]


def half_rows(result: Result) -> list[Row]:
    """Return the rows of the sum on either half."""
    return [row for row in result.rows if "subset" in row]


def row_of(result: Result, condition: str) -> Row:
    """Return the row of a condition about all questions."""
    return next(row for row in summary_rows(result) if row["condition"] == condition)
