"""Two halves of sampling units: one to choose by, and one to score on."""

from __future__ import annotations

import numpy as np

from kvtool.stats.bootstrap import Array

ORDERS = 20
"""Ways to halve the pictures that pairs join, of which one is taken."""


def halves(n: int, seed: int, clusters: Array | None = None) -> tuple[Array, Array]:
    """Indices of the units by which select "split" chooses a block, and of those on which it scores
    it.

    Units of a cluster, see kvtool.stats.bootstrap, are on one side. Units that join two pictures of
    different sides are on none: of some orders the one is taken that loses fewest.
    """
    # Without clusters each unit is one of its own.
    shared = np.arange(n) if clusters is None else clusters
    labels, cluster = np.unique(shared, return_inverse=True)
    # One order suffices where units nest in clusters: then no unit is lost between sides.
    rng = np.random.default_rng(seed)
    splits = []
    for _ in range(ORDERS if np.ndim(shared) == 2 else 1):
        side = np.ones(len(labels), int)
        # Half of the pictures, at random.
        side[rng.permutation(len(labels))[: len(labels) // 2]] = 0
        # A unit is on a side where all its pictures are.
        sides = side[cluster].reshape(n, -1)
        splits.append([np.flatnonzero((sides == half).all(axis=1)) for half in (0, 1)])
    # Where pairs are lost between the sides, the order that leaves the smaller half largest.
    first, second = max(splits, key=lambda split: min(map(len, split)))
    return first, second
