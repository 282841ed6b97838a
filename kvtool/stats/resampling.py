"""Resamples of sampling units: how often each is drawn, and the scores of what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Scores = Callable[[Array], dict[str, Array]]
"""Turns sums over units (..., k) into named scores (...)."""

AT_ONCE = 2**18
"""So many weights (draws times units) are in memory at a time, in a few arrays of 2 MB."""


def multinomial(
    units: Array, strata: Array | None, rng: np.random.Generator
) -> Callable[[int], Array]:
    """Return what draws the weights of the common bootstrap over units, see `resample`."""
    return lambda count: resample_weights(units.shape[-2], count, rng, strata)


def with_repeats(
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
    # A mean over few is known less well than their spread says.
    n_repeats = _n_drawn_of_few(repeats, n_strata)
    # Strata are taken as of equal size for how many fewer units are drawn.
    members = max(1, n // n_strata)
    fewer = members - _n_drawn_of_few(members, n_strata)

    def weights(count: int) -> Array:
        """Draw weights of units and of repetitions."""
        unit_weights = keeping_shares(resample_weights(n, count, rng, labels, fewer=fewer), labels)
        # Each stratum draws its repetitions by itself: (count, stratum, repeat).
        picks = rng.multinomial(n_repeats, evenly, size=(count, n_strata))
        # A unit's weight is its count times that of each repetition, (count, repeat, n).
        return unit_weights[:, None] * np.moveaxis(picks[:, stratum], 2, 1)

    return weights


def _n_drawn_of_few(count: int, n_strata: int) -> int:
    """Return how many of so many members of each stratum are drawn, for an interval of their mean
    that is as wide as Student's.

    One fewer makes the variance right (Rao and Wu 1988); the rest is for the quantile of t, whose
    degrees of freedom are those of all strata, in place of the normal one.
    """
    from scipy.special import ndtri, stdtrit

    if count < 2:
        return count
    # The normal quantile over Student's, by which the percentile interval is too narrow.
    narrower = float(ndtri(0.975) / stdtrit(n_strata * (count - 1), 0.975))
    return max(1, round((count - 1) * narrower**2))


def resample(
    units: Array, scores: Scores, weigh: Callable[[int], Array], draws: int
) -> dict[str, Array]:
    """Score resamples of units, (draw, ...) by name.

    `weigh` draws weights (count, n), or (count, repeat, n) where repetitions weigh differently.
    """
    n, k = units.shape[-2:]
    lead = units.shape[:-2]
    # (n, everything else), so that one product weighs all scores of all blocks.
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
    """Sum units flat (n, m * k) by weights, see `resample`; returns (count, m * k)."""
    if weights.ndim == 2:
        return np.asarray(weights @ flat)
    # Repetitions have weights of their own: a matrix product for each.
    count, repeats, n = weights.shape
    # A unit's k numbers are `repeats` groups of the same few.
    blocks = flat.reshape(n, -1, repeats, k // repeats)
    sums = np.empty((count, *blocks.shape[1:]))
    for repeat in range(repeats):
        block = blocks[:, :, repeat]
        sums[:, :, repeat] = (weights[:, repeat] @ block.reshape(n, -1)).reshape(
            -1, *block.shape[1:]
        )
    return sums.reshape(count, -1)


def keeping_shares(weights: Array, strata: Array) -> Array:
    """Scale weights (draw, n) so that each stratum weighs as much as it has units."""
    for label in np.unique(strata):
        members = strata == label
        # A stratum that was drawn from less often must not weigh less for it.
        total = weights[:, members].sum(axis=1, keepdims=True)
        weights[:, members] *= ratio(members.sum(), total, empty=0.0)
    return weights


def n_drawn(sizes: Array | int, fewer: int) -> Array:
    """Return how many members of groups of these sizes are drawn; half of them at least."""
    members = np.asarray(sizes)
    # Of small groups half, rounded up, or `fewer` would leave none.
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
    # Strata are drawn one by one into the columns of their members.
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


def ratio(numerator: Array, denominator: Array, empty: float = np.nan) -> Array:
    """Divide without a warning; the ratio is `empty` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(
        np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    )
    # `where` leaves the places of an empty denominator as they are filled here.
    quotient: Array = np.full(numerator.shape, empty)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
