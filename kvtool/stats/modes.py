"""Whether the variances of the keys fall into two modes, and where the valley between them is.

Variances span orders of magnitude, so everything here is about their logarithm and its Gaussian kernel density. Its
valley is the lowest point between two modes; if there are several, the one that lies deepest below the lower of its two
modes. Chance makes valleys too, in flat distributions most: the valley counts where uniform numbers, as many as there
are keys, rarely have one as deep (its density relative to that of the lower mode). A few keys far from all others are
no mode.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
"""Of the keys, and three at least, on either side of a valley: less is the tail of one mode."""
NARROWER = 0.7
"""Of Silverman's rule of thumb, the bandwidth: the rule is made for one mode and blurs two."""
FLOOR = 1e-6
"""Of the largest variance: what is below counts as this much, since keys that never change have no logarithm."""
GRID = 256
BINS = 24


@dataclass(frozen=True)
class Distribution:
    """Variances over keys. bin_edges, modes, valley: in units of the variance; bins are equal on a logarithmic scale.
    modes: highest points of the density on both sides of the valley; where it is not bimodal, the highest of all.
    valley_ratio: density in the valley over that of the lower mode. p_value: how often chance does as well."""

    bimodal: bool
    why: str
    modes: list[float]
    valley: float | None
    valley_ratio: float | None
    p_value: float | None
    bin_edges: list[float]
    counts: list[int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Valley(NamedTuple):
    """Places on the logarithmic scale; ratio: valley_ratio of Distribution."""

    left: float
    at: float
    right: float
    ratio: float


def describe(variances: Array, seed: int) -> Distribution:
    """The distribution of variances (key,), finite and not negative. seed: of the numbers it is compared with."""
    top = float(variances.max(initial=0.0))
    if top == 0:
        return Distribution(
            False, f"no variance at all in {len(variances)} keys", [], None, None, None, [], []
        )
    logs = np.log(np.maximum(variances, FLOOR * top))
    counts, edges = np.histogram(logs, BINS)
    histogram = np.exp(edges).tolist(), counts.tolist()
    if len(logs) < FEWEST or np.ptp(logs) == 0:
        why = (
            f"expected {FEWEST} keys or more, found {len(logs)}"
            if len(logs) < FEWEST
            else "all keys vary alike"
        )
        return Distribution(
            False, why, [float(np.exp(np.median(logs)))], None, None, None, *histogram
        )
    highest, valley = deepest_valley(logs)
    if valley is None:
        return Distribution(
            False, "no valley", [float(np.exp(highest))], None, None, None, *histogram
        )
    p_value = _p_value(valley.ratio, len(logs), seed)
    why = f"density in the valley {valley.ratio:.2f} of the lower mode's, p = {p_value:.3f}"
    if p_value >= LEVEL:
        return Distribution(
            False, why, [float(np.exp(highest))], None, valley.ratio, p_value, *histogram
        )
    left, at, right = np.exp(valley[:3]).tolist()
    return Distribution(True, why, [left, right], at, valley.ratio, p_value, *histogram)


def deepest_valley(logs: Array) -> tuple[float, Valley | None]:
    """Highest point of the density, and the valley with enough keys on both sides; None where there is none."""
    bandwidth = _bandwidth(logs)
    grid = np.linspace(logs.min() - bandwidth, logs.max() + bandwidth, GRID)
    exponents = -0.5 * ((grid[:, None] - logs) / bandwidth) ** 2
    top = exponents.max(axis=1)
    # As a logarithm it is exact far from all keys too: a wide gap has its valley in the middle.
    density = top + np.log(np.exp(exponents - top[:, None]).sum(axis=1))
    found: tuple[float, Valley] | None = None
    for at in (
        np.flatnonzero((density[1:-1] < density[:-2]) & (density[1:-1] <= density[2:])) + 1
    ).tolist():
        below = int((logs < grid[at]).sum())
        if min(below, len(logs) - below) < max(3, SHARE * len(logs)):
            continue
        left, right = int(density[:at].argmax()), at + int(density[at:].argmax())
        lower, here = np.exp(min(density[left], density[right])), np.exp(density[at])
        if found is None or lower - here > found[0]:
            found = (
                float(lower - here),
                Valley(float(grid[left]), float(grid[at]), float(grid[right]), float(here / lower)),
            )
    return float(grid[density.argmax()]), None if found is None else found[1]


def _p_value(ratio: float, n: int, seed: int) -> float:
    """How often n uniform numbers have a valley at least as deep (and this one)."""
    rng = np.random.default_rng(seed)
    valleys = (deepest_valley(rng.random(n))[1] for _ in range(DRAWS))
    deeper = sum(valley is not None and valley.ratio <= ratio for valley in valleys)
    return (1 + deeper) / (1 + DRAWS)


def _bandwidth(logs: Array) -> float:
    quartiles = np.quantile(logs, [0.25, 0.75])
    spreads = [float(logs.std(ddof=1)), float(quartiles[1] - quartiles[0]) / 1.34]
    rule = 0.9 * min(spread for spread in spreads if spread > 0) * len(logs) ** -0.2
    return float(max(NARROWER * rule, np.ptp(logs) * 4 / GRID))
