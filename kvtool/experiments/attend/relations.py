"""What sinks have to do with keys that do not depend on the input: correlations over keys, and
input-agnostic keys against the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtool.result import Row
from kvtool.stats.correlation import spearman
from kvtool.stats.multiple import with_holm
from kvtool.stats.permutation import DRAWS

MEASURES = (
    *("mass", "sink_share", "overlap", "border"),
    *("key_norm_ratio", "value_norm_ratio", "value_dependence", "peak"),
)
"""What is known of each key's sinks, see docs/attend.md."""
FEWEST = 4
"""Keys without which there is no interval."""


def correlations(rows: Sequence[Row]) -> list[Row]:
    """Correlate the keys' variance with each measure, over keys.

    Holm's correction is over the measures. Keys that lack one of both are left out of it.
    """
    results = []
    for measure in MEASURES:
        pairs = _defined(rows, ("variance", measure))
        if len(pairs) < FEWEST:
            continue
        value, low, high, p, n = spearman(pairs[:, 0], pairs[:, 1])
        if np.isnan(value):  # a measure that is the same for all keys
            continue
        ends = [None if np.isnan(end) else end for end in (low, high)]
        results.append(
            {"measure": measure, "rho": value, "rho_low": ends[0], "rho_high": ends[1]}
            | {"p": p, "n": n}
        )
    return with_holm(results, "p", "holm_p", lambda _: 0)


def compared(rows: Sequence[Row], seed: int) -> list[Row]:
    """Set input-agnostic keys beside the others, measure by measure, by a permutation of which keys
    are which; none where keys are not told apart.
    """
    judged = [row for row in rows if row["input_agnostic"] is not None]
    results = []
    for measure in MEASURES:
        groups = [
            _defined([row for row in judged if row["input_agnostic"] is agnostic], (measure,))[:, 0]
            for agnostic in (True, False)
        ]
        if not all(map(len, groups)) or sum(map(len, groups)) < FEWEST:
            continue
        means = [float(group.mean()) for group in groups]
        results.append(
            {"measure": measure, "agnostic": means[0], "others": means[1]}
            | {"p": permuted_p(*groups, seed=seed)}
            | {"n_agnostic": len(groups[0]), "n_others": len(groups[1])}
        )
    return with_holm(results, "p", "holm_p", lambda _: 0)


def permuted_p(first: Any, second: Any, *, seed: int) -> float:
    """Return the two-sided p of two groups with the same mean: which values are of which group is
    permuted.
    """
    from scipy.stats import permutation_test

    def difference(x: Any, y: Any, axis: int) -> Any:
        """Return the difference of the means."""
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    test = permutation_test(
        (first, second), difference, vectorized=True, n_resamples=DRAWS, rng=seed
    )
    return float(test.pvalue)


def _defined(rows: Sequence[Row], names: Sequence[str]) -> Any:
    """Return fields of the rows that have them all, (row, name)."""
    numbers = [
        [row[name] for name in names]
        for row in rows
        if all(row.get(name) is not None for name in names)
    ]
    return np.array(numbers, np.float64).reshape(-1, len(names))
