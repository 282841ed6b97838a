"""Shares of some of the questions, with intervals by these questions' pictures alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvtool.asking.paired.pictures import picture_clusters
from kvtool.asking.records import with_interval
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, bootstrap, count_clusters
from kvtool.stats.proportions import widened

FIXED = {"model": ("gained", "lost"), "value": ("gained",), "either": ("gained", "lost")}
"""Shares that are 0 or 1 by their definition, by condition: no sample could have another."""


def share_row(
    name: str,
    hits: Array,
    pictures: Sequence[tuple[str, ...]],
    seed: int,
    is_fixed: bool = False,
) -> Row:
    """Return the share of questions that are hits, its interval, and of how many it is: NAME_of.

    The share of no question is null; one that is fixed, or of what is resampled as one, has no
    interval.

    Args:
        name: what the share is called.
        hits: (question,) bool, of the questions behind the denominator.
        pictures: the pictures of each of these.
        seed: the random seed of the resamples.
        is_fixed: whether the share is fixed by its definition.
    """
    # The denominator is a part of the questions: it is resampled with its own pictures.
    n = len(hits)
    without = {name: float(hits.mean()) if n else None, f"{name}_low": None, f"{name}_high": None}
    clusters = picture_clusters(pictures)
    # Pairs that share pictures may be about more pictures than there are pairs.
    n_resampled = min(n, count_clusters(n, clusters))
    if is_fixed or n_resampled < 2:
        return without | {f"{name}_of": n}
    units = hits[:, None].astype(np.float64)
    units = np.hstack([units, np.ones_like(units)])
    resampled = bootstrap(units, _share, clusters=clusters, seed=seed)
    estimate = widened(resampled, n_resampled)["share"]
    return with_interval(name, *map(float, estimate)) | {f"{name}_of": n}


def _share(sums: Array) -> dict[str, Array]:
    """Return the share of sums (..., 2): hits and questions."""
    # A resample of pairs may weigh none of them.
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"share": sums[..., 0] / sums[..., 1]}
