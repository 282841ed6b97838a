"""What measures of heads have to do with one another: rank correlations over rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtool.stats.correlation import EXACT, spearman
from kvtool.stats.multiple import with_holm
from kvtool.stats.permutation import DRAWS, share_as_high
from kvtool.stats.resampling import Array

FEWEST = 4
"""Rows without which there is no interval."""


def rank_correlations(
    rows: Sequence[dict[str, Any]], field: str, measures: Sequence[str], seed: int | None = None
) -> list[dict[str, Any]]:
    """Correlate a field with each measure, over rows: Spearman's coefficient with its interval.

    Rows that lack one of both are left out of it, and a measure that is the same for all rows has
    no coefficient. Holm's correction is over the measures.

    Args:
        rows: A row for each head.
        field: What the measures are correlated with.
        measures: Other fields of the rows.
        seed: The random seed of permutations of the rows, of which p is then counted; None for
            Student's distribution.
    """
    results = []
    for measure in measures:
        pairs = defined(rows, (field, measure))
        # Fisher's interval needs n > 3.
        if len(pairs) < FEWEST:
            continue
        value, low, high, p, n = spearman(pairs[:, 0], pairs[:, 1])
        # All rows alike: there are no ranks to correlate.
        if np.isnan(value):
            continue
        # Few rows are permuted in every order already.
        if seed is not None and n > EXACT:
            p = permuted_rank_p(pairs[:, 0], pairs[:, 1], seed)
        ends = [None if np.isnan(end) else end for end in (low, high)]
        results.append(
            {"measure": measure, "rho": value, "rho_low": ends[0], "rho_high": ends[1]}
            | {"p": p, "n": n}
        )
    return with_holm(results, "p", "holm_p", lambda _: 0)


def permuted_rank_p(x: Array, y: Array, seed: int) -> float:
    """Return the two-sided p of no correlation of ranks: which y is whose is permuted."""
    from scipy.stats import rankdata

    # The mean rank is known, so that sums of products stand for coefficients.
    a, b = (rankdata(scores) - (len(scores) + 1) / 2 for scores in (x, y))
    # (DRAWS, row): each row of the tile is shuffled by itself.
    orders = np.random.default_rng(seed).permuted(np.tile(b, (DRAWS, 1)), axis=1)
    return share_as_high(np.abs(orders @ a), abs(float(a @ b)))


def defined(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Array:
    """Return fields of the rows that have them all, (row, name) float64."""
    numbers = [
        [row[name] for name in names]
        for row in rows
        if all(row.get(name) is not None for name in names)
    ]
    return np.array(numbers, np.float64).reshape(-1, len(names))
