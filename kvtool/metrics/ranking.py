"""How well a score map tells foreground from background without a cut: average precision and the
area under the ROC curve.

All pixels of a patch have the patch's score, so a map is scored by its cells alone: each counts for
its pixels of either kind. The numbers are those of scikit-learn over the pixels.
"""

from __future__ import annotations

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

COMPANIONS = ("average_precision", "auroc")
"""Measures of a map that need no cut; higher is better, whatever the unit of the others."""


def rank_cells(scores: Array, positives: Array, negatives: Array) -> tuple[Array, Array]:
    """Compute average precision and area under the ROC curve of maps, each (...,).

    Both are NaN where all pixels are of one kind.

    Args:
        scores: The maps (..., cell).
        positives: The number of foreground pixels of each cell, (cell,).
        negatives: That of background pixels, (cell,).
    """
    # Cells from the highest score down, as a threshold would pass them.
    order = np.argsort(-scores, axis=-1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=-1)
    # A cell stands for all its pixels, of both kinds.
    true = positives[order].astype(np.float64)
    false = negatives[order].astype(np.float64)
    n_true, n_false = float(positives.sum()), float(negatives.sum())
    # Cells of equal score are passed together: counts up to the last of them hold for all.
    last = _last_of_equals(ordered)
    true_passed = np.take_along_axis(true.cumsum(axis=-1), last, axis=-1)
    false_passed = np.take_along_axis(false.cumsum(axis=-1), last, axis=-1)
    precision = ratio(true_passed, true_passed + false_passed, empty=0.0)
    average_precision = (true * precision).sum(axis=-1)
    # A background pixel is beaten by what lies above its equals, and by half of those. The former
    # is what was passed with them, less themselves.
    equals = _sums_of_equals(true, last)
    beaten = (false * (true_passed - equals / 2)).sum(axis=-1)
    # Without a background pixel every cut is right, and precision says nothing.
    return (
        ratio(average_precision, np.array(n_true if n_false else 0.0)),
        ratio(beaten, np.array(n_true * n_false)),
    )


def _last_of_equals(ordered: Array) -> Array:
    """Return the last position with the same value as each of sorted values (..., cell)."""
    n = ordered.shape[-1]
    # From behind, the nearest position at which a value ends.
    is_last = np.ones(ordered.shape, bool)
    is_last[..., :-1] = ordered[..., :-1] != ordered[..., 1:]
    positions = np.where(is_last, np.arange(n), n)
    return np.minimum.accumulate(positions[..., ::-1], axis=-1)[..., ::-1]


def _sums_of_equals(numbers: Array, last: Array) -> Array:
    """Return the sum of the numbers (..., cell) that share the same last position."""
    n = numbers.shape[-1]
    maps = np.arange(numbers[..., 0].size).reshape(*numbers.shape[:-1], 1)
    # One bin for each map and last position, all maps in one count.
    bins = (maps * n + last).ravel()
    sums = np.bincount(bins, weights=numbers.ravel(), minlength=numbers.size)
    return np.asarray(sums[bins].reshape(numbers.shape))


def ranking_units(scores: Array, positives: Array, negatives: Array) -> Array:
    """Turn maps (..., cell) into units (..., 3): both measures, and 1 where they are defined."""
    measures = np.stack(rank_cells(scores, positives, negatives), axis=-1)
    defined = ~np.isnan(measures[..., :1])
    return np.concatenate([np.nan_to_num(measures), defined], axis=-1)


def ranking_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `ranking_units` into means over the maps of which they are defined."""
    return {name: ratio(sums[..., i], sums[..., 2]) for i, name in enumerate(COMPANIONS)}
