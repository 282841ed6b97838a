"""95 % intervals: the percentile bootstrap over sampling units, seeded, all blocks on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Scores = Callable[[Array], dict[str, Array]]
"""Sums over units (..., k) -> named scores (...)."""

AT_ONCE = 2**18
"""Draws times units whose weights are held at once: a few arrays of 2 MB."""


class Estimate(NamedTuple):
    """A score and its interval; arrays of one shape. NaN where the score is undefined."""

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
    """Scores of `units` (..., n, k) with percentile intervals.

    scores: turns sums over units (..., k) into named scores (...).
    strata: (n,) labels; resampling happens within each, so that no class vanishes from a resample.
    Resamples in which a score is undefined (NaN) are left out of its interval. One unit gives low = value = high.
    """
    n, k = units.shape[-2:]
    lead = units.shape[:-2]
    values = scores(units.sum(axis=-2))
    flat = np.moveaxis(units, -2, 0).reshape(n, -1).astype(np.float64, copy=False)
    drawn: dict[str, list[Array]] = {name: [] for name in values}
    rng = np.random.default_rng(seed)
    chunk = max(1, min(draws, AT_ONCE // max(n, 1)))
    for first in range(0, draws, chunk):
        weights = resample_weights(n, min(chunk, draws - first), rng, strata)
        sums = (weights @ flat).reshape(len(weights), *lead, k)
        for name, value in scores(sums).items():
            drawn[name].append(value)
    tail = (1 - level) / 2
    return {
        name: Estimate(value, *_percentiles(np.concatenate(drawn[name]), tail))
        for name, value in values.items()
    }


def resample_weights(
    n: int, draws: int, rng: np.random.Generator, strata: Array | None = None
) -> Array:
    """(draws, n) float64: how often each unit is drawn in each resample with replacement."""
    weights = np.zeros((draws, n))
    groups = (
        [np.arange(n)]
        if strata is None
        else [np.flatnonzero(strata == s) for s in np.unique(strata)]
    )
    rows = np.arange(draws)[:, None]
    for members in groups:
        picks = members[rng.integers(len(members), size=(draws, len(members)))]
        weights += np.bincount((rows * n + picks).ravel(), minlength=draws * n).reshape(draws, n)
    return weights


def mean_of_independent(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of scores found on different data, e.g. of several tasks. Each end is as far from it as the root of the
    squared distances of the scores' own ends, over their number (Zou and Donner 2008, "method of variance estimates
    recovery"): the normal interval where theirs are normal, and skewed as they are. NaN where one of them is."""
    value, low, high = (np.array([each[end] for each in estimates]) for end in range(3))
    down, up = (np.sqrt(((end - value) ** 2).sum(axis=0)) / len(estimates) for end in (low, high))
    mean = value.mean(axis=0)
    return Estimate(mean, mean - down, mean + up)


def _percentiles(drawn: Array, tail: float) -> tuple[Array, Array]:
    """Percentiles over the first axis, NaN left out; all NaN gives NaN."""
    if not np.isnan(drawn).any():
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        return low, high
    flat = drawn.reshape(len(drawn), -1)
    edges = np.full((2, flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        defined = flat[:, column][~np.isnan(flat[:, column])]
        if defined.size:
            edges[:, column] = np.quantile(defined, [tail, 1 - tail])
    return edges[0].reshape(drawn.shape[1:]), edges[1].reshape(drawn.shape[1:])


def ratio(numerator: Array, denominator: Array, empty: float = np.nan) -> Array:
    """numerator / denominator, `empty` where the denominator is 0; no warning."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    quotient: Array = np.full(numerator.shape, empty)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
