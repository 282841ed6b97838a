"""95 % intervals: the percentile bootstrap over sampling units.

It is seeded, and all blocks of a run see the same resamples.
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
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compute scores of units with percentile intervals.

    Resamples in which a score is undefined (NaN) are left out of its interval. A single unit gives
    low = value = high.

    Args:
        units: (..., n, k), numbers of n units that add up.
        scores: Turns sums over units (..., k) into named scores (...).
        strata: Labels (n,). Each is resampled by itself, so that no class vanishes.
        draws: The number of resamples.
        level: The level of the intervals.
        seed: The random seed of the resamples.
    """
    n, k = units.shape[-2:]
    lead = units.shape[:-2]
    values = scores(units.sum(axis=-2))
    flat = np.moveaxis(units, -2, 0).reshape(n, -1).astype(np.float64, copy=False)
    resampled: dict[str, list[Array]] = {name: [] for name in values}
    rng = np.random.default_rng(seed)
    # The sum of a resample is a weighted sum of the units: a matrix product for a chunk of draws.
    chunk = max(1, min(draws, AT_ONCE // max(n, 1)))
    for first in range(0, draws, chunk):
        weights = resample_weights(n, min(chunk, draws - first), rng, strata)
        sums = (weights @ flat).reshape(len(weights), *lead, k)
        for name, value in scores(sums).items():
            resampled[name].append(value)
    tail = (1 - level) / 2
    return {
        name: Estimate(value, *_percentiles(np.concatenate(resampled[name]), tail))
        for name, value in values.items()
    }


def resample_weights(
    n: int, draws: int, rng: np.random.Generator, strata: Array | None = None
) -> Array:
    """Draw how often each of n units is in each resample with replacement, (draws, n) float64."""
    weights = np.zeros((draws, n))
    if strata is None:
        groups = [np.arange(n)]
    else:
        groups = [np.flatnonzero(strata == label) for label in np.unique(strata)]
    rows = np.arange(draws)[:, None]
    for members in groups:
        # Each pair of draw and unit is a bin of one count over all draws.
        picks = members[rng.integers(len(members), size=(draws, len(members)))]
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
