"""Several tests at a time: Holm's correction (Holm 1979)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from kvtool.stats.bootstrap import Array


def holm(p: Sequence[float] | Array) -> Array:
    """Return Holm's corrected p of tests (test,).

    The smallest p is multiplied by the number of tests, the next one by one less, and so on; none
    is below a smaller one's, nor above 1. The chance that any true hypothesis is rejected at .05 is
    .05 at most, whatever the tests have in common.
    """
    raw = np.asarray(p, np.float64)
    order = np.argsort(raw, kind="stable")
    # The smallest p counts against all tests, the next against one fewer.
    remaining = len(raw) - np.arange(len(raw))
    corrected = np.empty_like(raw)
    # None below that of a smaller raw p: the order of the tests stays.
    corrected[order] = np.minimum(np.maximum.accumulate(raw[order] * remaining), 1.0)
    return corrected


def with_holm(
    rows: Sequence[dict[str, Any]],
    p: str,
    corrected: str,
    family: Callable[[Any], Hashable],
    subject: Callable[[Any], Hashable] = id,
) -> list[dict[str, Any]]:
    """Set Holm's corrected p beside the raw p of rows that have one.

    Args:
        rows: Rows of tests, and others, which stay as they are.
        p: The field of the raw p.
        corrected: The field of the corrected p.
        family: Tells which tests of a row's are corrected together.
        subject: Tells what a row tests: tests of one subject are one test, by default of each row.
    """
    # Tests of one family answer one question together.
    families: dict[Hashable, list[int]] = {}
    for index, row in enumerate(rows):
        if row.get(p) is not None:
            families.setdefault(family(row), []).append(index)
    completed = list(rows)
    for members in families.values():
        # One and the same test that stands in several rows counts once.
        raw = {subject(rows[index]): rows[index][p] for index in members}
        values = dict(zip(raw, holm(list(raw.values())), strict=True))
        for index in members:
            completed[index] = rows[index] | {corrected: float(values[subject(rows[index])])}
    return completed
