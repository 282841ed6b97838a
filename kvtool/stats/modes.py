"""Whether the variances of the keys fall into two modes, and where the valley between them is.

Variances span orders of magnitude, so that everything here is about their logarithm and its
Gaussian kernel density. The valley is the lowest point between two modes; if there are several, the
one that lies deepest below the lower of its two modes. Chance makes valleys too, in flat
distributions most: the valley counts where uniform numbers, as many as there are keys, rarely have
one as deep (by its density relative to that of the lower mode). A few keys far from all others are
no mode.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.05
"""A valley that uniform numbers have less often than this is no chance."""
DRAWS = 999
FEWEST = 8
"""Fewer keys cannot tell two modes from one."""
SHARE = 0.1
"""This share of the keys, and three at least, must lie on either side of a valley."""
NARROWER = 0.7
"""The bandwidth is this much of Silverman's rule of thumb, which blurs two modes into one."""
FLOOR = 1e-6
"""Variances below this share of the largest count as it, since 0 has no logarithm."""
GRID = 256
BINS = 24


@dataclass(frozen=True)
class Distribution:
    """The distribution of variances over keys; modes, valley and bins are in units of the variance.

    Attributes:
        bimodal: Whether there are two modes.
        reason: The reason, in words.
        modes: The highest points of the density on both sides of the valley; where the distribution
            is not bimodal, the highest of all.
        valley: The lowest point between the modes.
        valley_ratio: The density in the valley over that of the lower mode.
        p_value: How often chance has a valley as deep.
        bin_edges: The edges of the histogram's bins, which are equal on a logarithmic scale.
        counts: The number of keys of each bin.
    """

    bimodal: bool
    reason: str
    modes: list[float]
    valley: float | None
    valley_ratio: float | None
    p_value: float | None
    bin_edges: list[float]
    counts: list[int]

    def to_json(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {"why" if name == "reason" else name: value for name, value in asdict(self).items()}


class Valley(NamedTuple):
    """Two modes and the lowest point between them, as logarithms, and their `valley_ratio`."""

    lower_mode: float
    bottom: float
    upper_mode: float
    ratio: float


def describe(variances: Array, seed: int) -> Distribution:
    """Describe the variances (key,), which are finite and not negative.

    The seed is that of the uniform numbers they are compared with.
    """
    n = len(variances)
    # The floor is relative to the largest variance, so that units do not matter.
    top = float(variances.max(initial=0.0))
    if top == 0:
        return Distribution(False, f"no variance at all in {n} keys", [], None, None, None, [], [])
    # Variances span orders of magnitude, and 0 has no logarithm.
    logs = np.log(np.maximum(variances, FLOOR * top))
    counts, edges = np.histogram(logs, BINS)
    histogram = (np.exp(edges).tolist(), counts.tolist())
    # The histogram is shown even where nothing can be said of the modes.
    if n < FEWEST:
        reason = f"expected {FEWEST} keys or more, found {n}"
        return Distribution(False, reason, [_median(logs)], None, None, None, *histogram)
    # Without spread there is no bandwidth.
    if np.ptp(logs) == 0:
        return Distribution(
            False, "all keys vary alike", [_median(logs)], None, None, None, *histogram
        )
    highest, valley = deepest_valley(logs)
    mode = float(np.exp(highest))
    if valley is None:
        return Distribution(False, "no valley", [mode], None, None, None, *histogram)
    ratio = valley.ratio
    p_value = _p_value(ratio, n, seed)
    reason = f"density in the valley {ratio:.2f} of the lower mode's, p = {p_value:.3f}"
    # Chance makes valleys too: one that uniform numbers often have is none.
    if p_value >= LEVEL:
        return Distribution(False, reason, [mode], None, ratio, p_value, *histogram)
    # Back from logarithms to units of the variance.
    lower, bottom, upper = np.exp(valley[:3]).tolist()
    return Distribution(True, reason, [lower, upper], bottom, ratio, p_value, *histogram)


def _median(logs: Array) -> float:
    return float(np.exp(np.median(logs)))


def deepest_valley(logs: Array) -> tuple[float, Valley | None]:
    """Find the highest point of the density of logarithms (key,), and its deepest valley.

    There is no valley where none has enough keys on both sides.
    """
    grid, density = _log_density(logs)
    deepest: Valley | None = None
    depth = 0.0
    # A plateau's first point counts as its minimum.
    falls = density[1:-1] < density[:-2]
    rises = density[1:-1] <= density[2:]
    for bottom in (np.flatnonzero(falls & rises) + 1).tolist():
        below = int((logs < grid[bottom]).sum())
        # A few stragglers beyond a gap are no mode.
        if min(below, len(logs) - below) < max(3, SHARE * len(logs)):
            continue
        # The modes on both sides, and how deep the valley is below the lower of them.
        lower = int(density[:bottom].argmax())
        upper = bottom + int(density[bottom:].argmax())
        mode_density = np.exp(min(density[lower], density[upper]))
        bottom_density = np.exp(density[bottom])
        # Depth is the fall of the density itself, not of its logarithm.
        if deepest is None or mode_density - bottom_density > depth:
            depth = float(mode_density - bottom_density)
            ratio = float(bottom_density / mode_density)
            deepest = Valley(float(grid[lower]), float(grid[bottom]), float(grid[upper]), ratio)
    return float(grid[density.argmax()]), deepest


def _log_density(logs: Array) -> tuple[Array, Array]:
    """Evaluate the logarithm of the kernel density on a grid: both are (GRID,)."""
    bandwidth = _bandwidth(logs)
    # A bandwidth beyond the outermost keys, so that a mode at the edge shows its far side.
    grid = np.linspace(logs.min() - bandwidth, logs.max() + bandwidth, GRID)
    # (GRID, key): the Gaussian kernel of each key at each point, without its constant.
    exponents = -0.5 * ((grid[:, None] - logs) / bandwidth) ** 2
    # As a logarithm it is exact far from all keys too: a wide gap has its valley in the middle.
    top = exponents.max(axis=1)
    return grid, top + np.log(np.exp(exponents - top[:, None]).sum(axis=1))


def _p_value(ratio: float, n: int, seed: int) -> float:
    """Estimate how often n uniform numbers have a valley as deep, with this one counted."""
    deeper = sum(chance_ratio <= ratio for chance_ratio in _chance_ratios(n, seed, DRAWS))
    return (1 + deeper) / (1 + DRAWS)


@cache
def _chance_ratios(n: int, seed: int, draws: int) -> tuple[float, ...]:
    """Return the ratios of the valleys that n uniform numbers have, drawn once for all tests."""
    # The deepest valley of each draw, as of the data; draws without one are never deeper.
    rng = np.random.default_rng(seed)
    valleys = (deepest_valley(rng.random(n))[1] for _ in range(draws))
    return tuple(valley.ratio for valley in valleys if valley is not None)


def _bandwidth(logs: Array) -> float:
    """Return the bandwidth: a part of Silverman's rule, but four points of the grid at least."""
    # Silverman takes the smaller of two spreads, or far keys would widen the kernel.
    quartiles = np.quantile(logs, [0.25, 0.75])
    spreads = [float(logs.std(ddof=1)), float(quartiles[1] - quartiles[0]) / 1.34]
    rule = 0.9 * min(spread for spread in spreads if spread > 0) * len(logs) ** -0.2
    return float(max(NARROWER * rule, np.ptp(logs) * 4 / GRID))
