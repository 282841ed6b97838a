"""95 % intervals: the percentile bootstrap over sampling units, or over what they share.

It is seeded, and all blocks of a run see the same resamples. Units that share a picture are not
independent: `clusters` says which do, and what is resampled then is the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Scores = Callable[[Array], dict[str, Array]]
"""Turns sums over units (..., k) into named scores (...)."""

AT_ONCE = 2**18
"""So many weights (draws times units) are in memory at a time, in a few arrays of 2 MB."""

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
    if clusters is not None and np.ndim(clusters) == 2:
        return _of_pairs(units, scores, strata, clusters, draws, tail, rng)
    if clusters is not None:
        units, strata = pooled(units, strata, clusters)
    weigh = _multinomial(units, strata, rng)
    if repeats > 1:
        weigh = _with_repeats(units.shape[-2], repeats, strata, rng)
    resampled = _resample(units, scores, weigh, draws)
    return {
        name: Estimate(value, *_percentiles(resampled[name], tail))
        for name, value in scores(units.sum(axis=-2)).items()
    }


def count_clusters(n: int, clusters: Array | None) -> int:
    """Return how many things are resampled: units, or distinct labels of clusters."""
    return n if clusters is None else len(np.unique(clusters))


def pooled(units: Array, strata: Array | None, clusters: Array) -> tuple[Array, Array | None]:
    """Return the sums of units by cluster (..., cluster, k), and each cluster's stratum."""
    _, first, cluster = np.unique(clusters, return_index=True, return_inverse=True)
    sums = np.zeros((len(first), *units.shape[:-2], units.shape[-1]))
    np.add.at(sums, cluster, np.moveaxis(units, -2, 0))
    return np.moveaxis(sums, 0, -2), None if strata is None else np.asarray(strata)[first]


def _multinomial(
    units: Array, strata: Array | None, rng: np.random.Generator
) -> Callable[[int], Array]:
    """Return what draws the weights of the common bootstrap over units, see `_resample`."""
    return lambda count: resample_weights(units.shape[-2], count, rng, strata)


def _with_repeats(
    n: int, repeats: int, strata: Array | None, rng: np.random.Generator
) -> Callable[[int], Array]:
    """Return what draws weights (count, repeat, n): those of n units, times how often each
    repetition was drawn in a unit's stratum.

    Repetitions of different strata have nothing in common. Of units and of repetitions some fewer
    than there are are drawn, see `_n_drawn_of_few`.
    """
    labels = np.zeros(n) if strata is None else np.asarray(strata)
    names, stratum = np.unique(labels, return_inverse=True)
    n_strata = len(names)
    evenly = np.full(repeats, 1 / repeats)
    n_repeats = _n_drawn_of_few(repeats, n_strata)
    members = max(1, n // n_strata)
    fewer = members - _n_drawn_of_few(members, n_strata)

    def weights(count: int) -> Array:
        """Draw weights of units and of repetitions."""
        of_units = _keeping_shares(resample_weights(n, count, rng, labels, fewer=fewer), labels)
        picks = rng.multinomial(n_repeats, evenly, size=(count, n_strata))
        return of_units[:, None] * np.moveaxis(picks[:, stratum], 2, 1)

    return weights


def _n_drawn_of_few(count: int, n_strata: int) -> int:
    """Return how many of so many members of each stratum are drawn, for an interval of their mean
    that is as wide as Student's.

    One fewer makes the variance right (Rao and Wu 1988); the rest is for the quantile of t, whose
    degrees of freedom are those of all strata, in place of the normal one.
    """
    from scipy.stats import norm, t

    if count < 2:
        return count
    narrower = float(norm.ppf(0.975) / t.ppf(0.975, n_strata * (count - 1)))
    return max(1, round((count - 1) * narrower**2))


def _resample(
    units: Array, scores: Scores, weigh: Callable[[int], Array], draws: int
) -> dict[str, Array]:
    """Score resamples of units, (draw, ...) by name.

    `weigh` draws weights (count, n), or (count, repeat, n) where repetitions weigh differently.
    """
    n, k = units.shape[-2:]
    lead = units.shape[:-2]
    flat = np.moveaxis(units, -2, 0).reshape(n, -1).astype(np.float64, copy=False)
    resampled: dict[str, list[Array]] = {}
    # The sum of a resample is a weighted sum of the units: a matrix product for a chunk of draws.
    chunk = max(1, min(draws, AT_ONCE // max(n, 1)))
    for first in range(0, draws, chunk):
        weights = weigh(min(chunk, draws - first))
        sums = _weighted_sums(weights, flat, k).reshape(len(weights), *lead, k)
        for name, value in scores(sums).items():
            resampled.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in resampled.items()}


def _weighted_sums(weights: Array, flat: Array, k: int) -> Array:
    """Sum units flat (n, m * k) by weights, see `_resample`; returns (count, m * k)."""
    if weights.ndim == 2:
        return np.asarray(weights @ flat)
    count, repeats, n = weights.shape
    blocks = flat.reshape(n, -1, repeats, k // repeats)
    sums = np.empty((count, *blocks.shape[1:]))
    for repeat in range(repeats):
        block = blocks[:, :, repeat]
        sums[:, :, repeat] = (weights[:, repeat] @ block.reshape(n, -1)).reshape(
            -1, *block.shape[1:]
        )
    return sums.reshape(count, -1)


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
    sides = flat_sides.reshape(-1, 2)
    labels = np.zeros(len(sides)) if strata is None else np.asarray(strata)
    stratum = labels[first // 2]  # flattened, a unit's two pictures follow each other

    def means(count: int) -> Array:
        """Weigh units by the mean of how often their two pictures were drawn."""
        weights = resample_weights(len(pictures), count, rng, stratum, FEWER)
        return _keeping_shares((weights[:, sides[:, 0]] + weights[:, sides[:, 1]]) / 2, labels)

    by_picture = _resample(units, scores, means, draws)
    # A pair of pictures is one pair both ways round.
    pair = np.sort(sides, axis=1) @ np.array([len(pictures), 1])
    pairs, pair_strata = pooled(units, labels, pair)
    by_pair = _resample(pairs, scores, _multinomial(pairs, pair_strata, rng), draws)
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
    return float((sizes**2 / n_drawn(sizes, FEWER)).sum() / sizes.sum())


def _combined(
    by_picture: Estimate, by_pair: Estimate, enlargement: float, single: Array
) -> Estimate:
    """Combine the intervals of `_of_pairs`; `single` has the scores of each unit (n, ...)."""
    value = by_picture.value

    def distance(picture_end: Array, pair_end: Array) -> Array:
        """Return how far an end lies from the value."""
        squared = 4 * (picture_end - value) ** 2 - enlargement * (pair_end - value) ** 2
        return np.asarray(np.sqrt(np.maximum(squared, (pair_end - value) ** 2)))

    low = value - distance(by_picture.low, by_pair.low)
    high = value + distance(by_picture.high, by_pair.high)
    # No mean lies beyond all that it is the mean of.
    lowest, highest = np.fmin.reduce(single), np.fmax.reduce(single)
    return Estimate(value, np.maximum(low, lowest), np.minimum(high, highest))


def _keeping_shares(weights: Array, strata: Array) -> Array:
    """Scale weights (draw, n) so that each stratum weighs as much as it has units."""
    for label in np.unique(strata):
        members = strata == label
        total = weights[:, members].sum(axis=1, keepdims=True)
        weights[:, members] *= ratio(members.sum(), total, empty=0.0)
    return weights


def n_drawn(sizes: Array | int, fewer: int) -> Array:
    """Return how many members of groups of these sizes are drawn; half of them at least."""
    members = np.asarray(sizes)
    return np.asarray(np.maximum((members + 1) // 2, members - fewer))


def resample_weights(
    n: int,
    draws: int,
    rng: np.random.Generator,
    strata: Array | None = None,
    fewer: int = 0,
) -> Array:
    """Draw how often each of n units is in each resample with replacement, (draws, n) float64.

    Of each stratum as many are drawn as it has members, or `fewer`.
    """
    weights = np.zeros((draws, n))
    if strata is None:
        groups = [np.arange(n)]
    else:
        groups = [np.flatnonzero(strata == label) for label in np.unique(strata)]
    rows = np.arange(draws)[:, None]
    for members in groups:
        # Each pair of draw and unit is a bin of one count over all draws.
        size = (draws, int(n_drawn(len(members), fewer)))
        picks = members[rng.integers(len(members), size=size)]
        weights += np.bincount((rows * n + picks).ravel(), minlength=draws * n).reshape(draws, n)
    return weights


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """Average scores of different data, such as those of several tasks.

    Each end is as far from the mean as the root of the squared distances of the scores' ends, over
    their number (Zou and Donner 2008, "method of variance estimates recovery"). It is the normal
    interval where theirs are normal, and skewed as they are. The mean is NaN where a score is.
    """
    value = np.array([estimate.value for estimate in estimates])
    low = np.array([estimate.low for estimate in estimates])
    high = np.array([estimate.high for estimate in estimates])
    down = np.sqrt(((low - value) ** 2).sum(axis=0)) / len(estimates)
    up = np.sqrt(((high - value) ** 2).sum(axis=0)) / len(estimates)
    mean = value.mean(axis=0)
    return Estimate(mean, mean - down, mean + up)


def _percentiles(samples: Array, tail: float) -> tuple[Array, Array]:
    """Compute percentiles over the first axis without NaN; they are NaN where all samples are."""
    if not np.isnan(samples).any():
        low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
        return low, high
    flat = samples.reshape(len(samples), -1)
    edges = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        defined = flat[:, column][~np.isnan(flat[:, column])]
        if defined.size:
            edges[:, column] = np.quantile(defined, [tail, 1 - tail])
    return edges[0].reshape(samples.shape[1:]), edges[1].reshape(samples.shape[1:])


def ratio(numerator: Array, denominator: Array, empty: float = np.nan) -> Array:
    """Divide without a warning; the ratio is `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    quotient: Array = np.full(numerator.shape, empty)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
