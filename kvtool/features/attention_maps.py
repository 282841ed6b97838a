"""What a map of attention on image tokens is like: how much there is, how widely it is spread, and
how it lies on the picture's grid.

Maps are (..., token) and not negative; what the other tokens get is not in them, so that they need
not add up to 1. All functions take many maps at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.stats.resampling import ratio

Array = np.ndarray[Any, Any]
SINK_SHARE = 0.01
"""The strongest tokens of a map, by their share of all tokens, at least one."""
SMOOTHING_CELLS = 1.0
"""The standard deviation of the Gaussian that maps of localization heads are smoothed with."""
ROUNDING = 1e-6
"""By more than this share a cell must exceed its map's mean to lie above it."""


def count_sinks(n_tokens: int) -> int:
    """Return how many of so many tokens count as a map's strongest."""
    return max(1, int(SINK_SHARE * n_tokens))


def entropy(maps: Array) -> Array:
    """Compute the entropy of each map's distribution over tokens, divided by that of an even one;
    NaN where nothing is attended to.

    0: a single token has all; 1: all tokens have the same. A single token has 0.
    """
    # A map's numbers need not add up to 1: other tokens have the rest.
    shares = ratio(maps, maps.sum(axis=-1, keepdims=True))
    # 0 log 0 is 0.
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    # The entropy of an even distribution; of a single token it is 0, and no divisor.
    highest = np.log(maps.shape[-1])
    total: Array = np.abs((shares * logarithms).sum(axis=-1))
    return total if highest == 0 else total / highest


def sink_share(maps: Array) -> Array:
    """Compute the share of each map's mass that lies on its strongest tokens; NaN where it has
    none.
    """
    n = count_sinks(maps.shape[-1])
    # Partitioned, not sorted: the order among the strongest does not matter for their sum.
    strongest = np.partition(maps, -n, axis=-1)[..., -n:].sum(axis=-1, dtype=np.float64)
    return ratio(strongest, maps.sum(axis=-1, dtype=np.float64))


def sink_tokens(maps: Array) -> Array:
    """Return the indices of each map's strongest tokens, (..., sink), the strongest first; of
    equals the first.
    """
    # Stable, so that of equals the first stay first.
    order = np.argsort(-maps, axis=-1, kind="stable")
    return order[..., : count_sinks(maps.shape[-1])]


def spatial_entropy(maps: Array, grid: tuple[int, int]) -> Array:
    """Compute how many pieces each map on a grid falls into, as the entropy of their sizes.

    A map (..., cell) is cut at its mean; cells above it that touch, corners included, are a piece.
    0: a single piece. Infinity where no cell is above the mean, as in an even map. See Kang et al.
    2025, "Your large vision-language model only needs a few attention heads for visual grounding".
    """
    from scipy.ndimage import label

    # All maps at once, (map, row, col), each cut at its own mean.
    flat = maps.reshape(-1, *grid)
    means = flat.mean(axis=(1, 2), keepdims=True)
    # A rounded mean may lie below every cell of an even map.
    above = flat > means + ROUNDING * np.abs(means)
    # Cells of one map touch each other, those of different maps do not.
    touching = np.zeros((3, 3, 3), int)
    touching[1] = 1
    pieces, _ = label(above, structure=touching)
    # Infinite where no piece is met: nothing stands out there.
    entropies = np.full(len(flat), np.inf)
    sizes = np.bincount(pieces.ravel())
    # Pieces are numbered map by map.
    for number in np.flatnonzero(above.any(axis=(1, 2))):
        present = np.unique(pieces[number])
        # Label 0 is what lies below the mean.
        shares = sizes[present[present > 0]]
        shares = shares / shares.sum()
        entropies[number] = abs(float((shares * np.log(shares)).sum()))
    return entropies.reshape(maps.shape[:-1])


def smoothed_sum(maps: Array, grid: tuple[int, int]) -> Array:
    """Add up maps (map, cell) of one grid, each smoothed with a Gaussian; returns (cell,)."""
    from scipy.ndimage import gaussian_filter

    flat = maps.reshape(-1, *grid).astype(np.float64)
    # No smoothing along the first axis, so that maps do not run into each other.
    smoothed = gaussian_filter(flat, sigma=(0.0, SMOOTHING_CELLS, SMOOTHING_CELLS))
    total: Array = smoothed.sum(axis=0).reshape(-1)
    return total


def border_cells(grid: tuple[int, int]) -> Array:
    """Return which cells of a grid lie on its border, (cell,) bool."""
    border = np.ones(grid, bool)
    border[1:-1, 1:-1] = False
    return border.reshape(-1)
