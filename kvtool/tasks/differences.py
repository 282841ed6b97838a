"""Blocks compared over the same sampling units: the one statistic of `kvtool prefix` and `kvtool
compare`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.result import Row
from kvtool.stats.bootstrap import count_clusters, pooled
from kvtool.stats.permutation import swapped
from kvtool.tasks.base import Array, Table, table_rows

NORMAL_END = 1.959963984540054
"""How many standard errors from the value a normal 95 % interval ends."""


def difference(
    ours: Table, without: Table, metric: str, seed: int, nonfinite: Array | None = None
) -> Row:
    """Return a block's score less another's over the same units, with its interval.

    The bootstrap is paired: each resample draws units, and with a unit both blocks' share of it.
    None where our block's values are not finite.
    """
    (row,) = differences(ours, without, metric, seed, nonfinite)
    return row


def differences(
    ours: Table, without: Table, metric: str, seed: int, nonfinite: Array | None = None
) -> list[Row]:
    """Return the same for each of several blocks: the scores of `ours` less those of `without`, in
    their order.

    Args:
        ours: The units of some blocks (block, n, k).
        without: The units of as many others, over the same things.
        metric: The score that is compared.
        seed: The random seed of the resamples.
        nonfinite: How many values under each block are not finite (block,).
    """
    k = ours.units.shape[-1]

    def scores(sums: Array) -> dict[str, Array]:
        """Score both blocks' sums side by side."""
        return {
            "difference": ours.scores(sums[..., :k])[metric] - without.scores(sums[..., k:])[metric]
        }

    # Both blocks' units side by side: a resample draws them together.
    units = np.concatenate([ours.units, without.units], axis=-1)
    table = ours._replace(units=units, scores=scores, facts=None)
    rows = table_rows([{} for _ in units], table, seed, nonfinite)
    return [
        {name: value for name, value in row.items() if name not in ("n", "n_resampled")}
        for row in rows
    ]


def difference_p(ours: Table, without: Table, metric: str, row: Row, seed: int) -> float | None:
    """Return the two-sided p of no difference between two blocks; None where it is not defined.

    Where they do not differ, a unit's numbers may as well be the other block's: they are swapped at
    random, those of units that share a picture together. A unit that joins two pictures cannot be
    swapped without the units that share one with it, which hang together over all pictures: of
    such, p is that of a normal estimate with the end of the paired interval that faces 0.

    Args:
        ours: The units of a block, (1, n, k).
        without: Those of the other.
        metric: The score that is compared.
        row: The difference of the two with its interval, from `differences`.
        seed: The random seed of the swaps.
    """
    # Without an interval there is one picture at most, and nothing to swap.
    if row["difference"] is None or row["difference_low"] is None:
        return None
    if ours.clusters is not None and np.ndim(ours.clusters) == 2:
        return _normal_p(row, count_clusters(ours.units.shape[1], ours.clusters))
    # All that a picture's units have is swapped together.
    sides: Sequence[Array] = [table.units[0] for table in (ours, without)]
    if ours.clusters is not None:
        sides = [pooled(units, None, ours.clusters)[0] for units in sides]
    p = swapped(sides[0], sides[1], ours.scores, metric, seed=seed)
    return None if np.isnan(p) else p


def _normal_p(row: Row, n_pictures: int) -> float:
    """Return p by a difference's distance to the end of its interval that faces 0."""
    from scipy.special import ndtr

    # The interval's end that faces 0 tells the spread on the side that matters.
    value = row["difference"]
    if value == 0:
        return 1.0
    distance = abs(value - row["difference_low" if value > 0 else "difference_high"])
    tail = float(ndtr(-NORMAL_END * abs(value) / distance)) if distance else 0.0
    # No test of so many pictures tells more than all their signs do.
    return max(2 * tail, 0.5 ** (n_pictures - 1))
