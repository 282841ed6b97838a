"""95 % intervals: the percentile bootstrap over sampling units, or over what they share.

It is seeded, and all blocks of a run see the same resamples. Units that share a picture are not
independent: `clusters` says which do, and what is resampled then is the pictures.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from kvtool.stats.resampling import (
    Array,
    Scores,
    keeping_shares,
    multinomial,
    n_drawn,
    ratio,
    resample,
    resample_weights,
    with_repeats,
)

__all__ = [
    "Array",
    "Estimate",
    "Scores",
    "bootstrap",
    "count_clusters",
    "mean_of_independent",
    "mean_over_tasks",
    "pooled",
    "ratio",
    "resample_weights",
]

FEWER = 4
"""So many pictures fewer than there are, but half of them at least, are drawn where units join two.

Scores of a unit less the mean of its stratum are smaller than those less the true mean, and a unit
shares the mean's error on both of its sides. Found by simulation, see docs/measures.md.
"""


class Estimate(NamedTuple):
    """A score and its interval, arrays of one shape; they are NaN where the score is undefined."""

    value: Array
    low: Array
    high: Array


def bootstrap(
    units: Array,
    scores: Scores,
    *,
    strata: Array | None = None,
    clusters: Array | None = None,
    repeats: int = 1,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute scores of units with percentile intervals.

    Resamples in which a score is undefined (NaN) are left out of its interval. A single unit, or
    units of a single cluster, give low = value = high.

    Args:
        units: (..., n, k), numbers of n units that add up.
        scores: Turns sums over units (..., k) into named scores (...).
        strata: Labels (n,). Each is resampled by itself, so that no class vanishes. A cluster
            belongs to the stratum of its first unit.
        clusters: Labels (n,) of what units share, such as their picture: clusters are resampled
            whole. Or (n, 2), the two pictures that a unit joins, see `_of_pairs`.
        repeats: A unit's k numbers are those of so many repetitions of the whole, such as the
            seeds of a clustering, one after another. They are resampled beside the units, in each
            stratum by itself; `scores` has to add them up.
        draws: The number of resamples.
        level: The level of the intervals.
        seed: The random seed of the resamples.
    """
    tail = (1 - level) / 2
    rng = np.random.default_rng(seed)
    # Units that join two pictures share each of them with others, so labels do not nest.
    if clusters is not None and np.ndim(clusters) == 2:
        return _of_pairs(units, scores, strata, clusters, draws, tail, rng)
    # What units share is resampled whole: their sums become the units.
    if clusters is not None:
        units, strata = pooled(units, strata, clusters)
    # A count per unit; where repetitions vary too, a count per repetition and unit.
    weigh = multinomial(units, strata, rng)
    if repeats > 1:
        weigh = with_repeats(units.shape[-2], repeats, strata, rng)
    resampled = resample(units, scores, weigh, draws)
    # The value is that of the sums over all units; resamples give its ends alone.
    return {
        name: Estimate(value, *_percentiles(resampled[name], tail))
        for name, value in scores(units.sum(axis=-2)).items()
    }


def count_clusters(n: int, clusters: Array | None) -> int:
    """Return how many things are resampled: units, or distinct labels of clusters."""
    return n if clusters is None else len(np.unique(clusters))


def pooled(units: Array, strata: Array | None, clusters: Array) -> tuple[Array, Array | None]:
    """Return the sums of units by cluster (..., cluster, k), and each cluster's stratum."""
    # A cluster belongs to the stratum of its first unit.
    _, first, cluster = np.unique(clusters, return_index=True, return_inverse=True)
    # The unbuffered sum: several units may fall to one cluster.
    sums = np.zeros((len(first), *units.shape[:-2], units.shape[-1]))
    np.add.at(sums, cluster, np.moveaxis(units, -2, 0))
    return np.moveaxis(sums, 0, -2), None if strata is None else np.asarray(strata)[first]


def _of_pairs(
    units: Array,
    scores: Scores,
    strata: Array | None,
    clusters: Array,
    draws: int,
    tail: float,
    rng: np.random.Generator,
) -> dict[str, Estimate]:
    """Bootstrap units that join two pictures each, by picture.

    A unit weighs as the mean of its two pictures' counts, which gives a quarter of the variance,
    but a unit's own counts twice. So that of a bootstrap over pairs is taken from it: inclusion
    and exclusion (Cameron, Gelbach and Miller 2011). No interval is narrower than that over pairs.
    """
    pictures, first, flat_sides = np.unique(clusters, return_index=True, return_inverse=True)
    # How np.unique shapes the inverse of two columns depends on NumPy's version.
    sides = flat_sides.reshape(-1, 2)
    labels = np.zeros(len(sides)) if strata is None else np.asarray(strata)
    stratum = labels[first // 2]  # flattened, a unit's two pictures follow each other

    def means(count: int) -> Array:
        """Weigh units by the mean of how often their two pictures were drawn."""
        weights = resample_weights(len(pictures), count, rng, stratum, FEWER)
        return keeping_shares((weights[:, sides[:, 0]] + weights[:, sides[:, 1]]) / 2, labels)

    # The two bootstraps that inclusion and exclusion needs.
    by_picture = resample(units, scores, means, draws)
    # A pair of pictures is one pair both ways round.
    pair = np.sort(sides, axis=1) @ np.array([len(pictures), 1])
    pairs, pair_strata = pooled(units, labels, pair)
    by_pair = resample(pairs, scores, multinomial(pairs, pair_strata, rng), draws)
    # Each unit by itself: their range bounds every mean of them.
    single = scores(np.moveaxis(units, -2, 0))
    return {
        name: _combined(
            Estimate(value, *_percentiles(by_picture[name], tail)),
            Estimate(value, *_percentiles(by_pair[name], tail)),
            _enlargement(stratum),
            single[name],
        )
        for name, value in scores(units.sum(axis=-2)).items()
    }


def _enlargement(strata: Array) -> float:
    """Return by how much drawing FEWER pictures enlarges variances, on average over pictures."""
    sizes = np.unique(strata, return_counts=True)[1]
    # The variance of a mean of m pictures out of n is n / m of the usual one.
    return float((sizes**2 / n_drawn(sizes, FEWER)).sum() / sizes.sum())


def _combined(
    by_picture: Estimate, by_pair: Estimate, enlargement: float, single: Array
) -> Estimate:
    """Combine the intervals of `_of_pairs`; `single` has the scores of each unit (n, ...)."""
    value = by_picture.value

    def distance(picture_end: Array, pair_end: Array) -> Array:
        """Return how far an end lies from the value."""
        # Four times, as half weights give a quarter; what a pair adds is enlarged as they are.
        squared = 4 * (picture_end - value) ** 2 - enlargement * (pair_end - value) ** 2
        return np.asarray(np.sqrt(np.maximum(squared, (pair_end - value) ** 2)))

    low = value - distance(by_picture.low, by_pair.low)
    high = value + distance(by_picture.high, by_pair.high)
    # No mean lies beyond all that it is the mean of.
    lowest, highest = np.fmin.reduce(single), np.fmax.reduce(single)
    return Estimate(value, np.maximum(low, lowest), np.minimum(high, highest))


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Average scores of different data, such as those of several tasks.

    Each end is as far from the mean as the root of the squared distances of the scores' ends, over
    their number (Zou and Donner 2008, "method of variance estimates recovery"). It is the normal
    interval where theirs are normal, and skewed as they are. The mean is NaN where a score is.
    """
    value = np.array([estimate.value for estimate in estimates])
    low = np.array([estimate.low for estimate in estimates])
    high = np.array([estimate.high for estimate in estimates])
    # Distances to independent ends add up as squares, each side by itself.
    down = np.sqrt(((low - value) ** 2).sum(axis=0)) / len(estimates)
    up = np.sqrt(((high - value) ** 2).sum(axis=0)) / len(estimates)
    mean = value.mean(axis=0)
    return Estimate(mean, mean - down, mean + up)


def mean_over_tasks(estimates: Sequence[Estimate], sources: Sequence[Hashable]) -> Estimate:
    """Average scores of several tasks, each weighing the same.

    Tasks over different images are independent. Those of one source share their images, and nothing
    is known of how their errors hang together: they are taken to go the same way, for which no
    interval is too narrow.

    Args:
        estimates: a score of each task.
        sources: what images each is of.
    """
    groups: dict[Hashable, list[Estimate]] = {}
    for estimate, source in zip(estimates, sources, strict=True):
        groups.setdefault(source, []).append(estimate)
    shares = []
    for members in groups.values():
        # As many parts as there are groups, each weighing as its tasks do among all.
        weight = len(groups) / len(estimates)
        sums = (sum(getattr(member, end) for member in members) for end in Estimate._fields)
        shares.append(Estimate(*(weight * np.asarray(total) for total in sums)))
    return mean_of_independent(shares)


def _percentiles(samples: Array, tail: float) -> tuple[Array, Array]:
    """Compute percentiles over the first axis without NaN; they are NaN where all samples are."""
    if not np.isnan(samples).any():
        # One call over all columns, which is much faster than column by column.
        low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
        return low, high
    # Column by column: each has its own resamples without a score.
    flat = samples.reshape(len(samples), -1)
    edges = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        defined = flat[:, column][~np.isnan(flat[:, column])]
        if defined.size:
            edges[:, column] = np.quantile(defined, [tail, 1 - tail])
    return edges[0].reshape(samples.shape[1:]), edges[1].reshape(samples.shape[1:])
