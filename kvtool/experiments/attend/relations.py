"""What sinks have to do with keys that do not depend on the input: correlations over keys, and
input-agnostic keys against the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtool.result import Row
from kvtool.stats.multiple import with_holm
from kvtool.stats.permutation import DRAWS
from kvtool.stats.rank_relations import FEWEST, defined, rank_correlations

MEASURES = (
    *("mass", "sink_share", "overlap", "border"),
    *("key_norm_ratio", "value_norm_ratio", "value_dependence", "peak"),
)
"""What is known of each key's sinks, see docs/attend.md."""


def correlations(rows: Sequence[Row]) -> list[Row]:
    """Correlate the keys' variance with each measure, over keys."""
    return rank_correlations(rows, "variance", MEASURES)


def compared(rows: Sequence[Row], seed: int) -> list[Row]:
    """Set input-agnostic keys beside the others, measure by measure, by a permutation of which keys
    are which; none where keys are not told apart.
    """
    # Keys of which nobody knows are in neither group.
    judged = [row for row in rows if row["input_agnostic"] is not None]
    results = []
    for measure in MEASURES:
        groups = [
            defined([row for row in judged if row["input_agnostic"] is agnostic], (measure,))[:, 0]
            for agnostic in (True, False)
        ]
        # Among too few keys no permutation tells anything.
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
