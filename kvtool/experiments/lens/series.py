"""The lens' measures as lines over layers: on the patches that words name, and what stands beside
it.
"""

from __future__ import annotations

from typing import NamedTuple

from kvtool.result import Result, Row

PATCHES = "words on their patches"
PERMUTED = "words of other concepts"
TEXT = "words in sentences"


class LensLine(NamedTuple):
    """A line over layers: its name, and rows of `layer`, `auroc` and its interval."""

    name: str
    rows: list[Row]


def measures_of(result: Result) -> list[str]:
    """Return the measures that were taken."""
    return list(dict.fromkeys(row["measure"] for row in result.rows))


def rows_of(result: Result, measure: str) -> list[Row]:
    """Return the rows of a measure, a layer each."""
    return [row for row in result.rows if row["measure"] == measure]


def lines_of(result: Result, measure: str) -> list[LensLine]:
    """Return the lines of a measure; those that are defined in no layer are left out."""
    rows = rows_of(result, measure)
    lines = [
        LensLine(PATCHES, rows),
        LensLine(PERMUTED, [{"layer": row["layer"], "auroc": row["permuted"]} for row in rows]),
        LensLine(TEXT, [{"layer": row["layer"], "auroc": row["text"]} for row in rows]),
    ]
    return [line for line in lines if any(row["auroc"] is not None for row in line.rows)]
