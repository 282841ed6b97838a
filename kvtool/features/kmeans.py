"""k-means of many sets of points at once: Lloyd's algorithm from the best of seeded starts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
"""Point values of the starts that run side by side: what a CPU's cache holds, or a GPU needs."""

TRIAL = 3
"""Steps after which starts are compared: bad ones are seen by then, and the rest of their way, most
of the time, is saved (docs/decisions/probes-saliency.md)."""


def kmeans(
    points: Tensor, k: int, *, restarts: int = 10, iterations: int = 300, seed: int = 0
) -> Tensor:
    """Return the centroids (problem, k, dim) of the start that looks best after a few steps.

    Starts are drawn as k-means++ does, the same for equal inputs and seed. All of them take TRIAL
    steps, and the one with the least sum of squared distances then goes on to its end. A centroid
    that no point is nearest to stays where it is.

    Args:
        points: (problem, n, dim), one set of points for each problem.
        k: the number of clusters.
        restarts: the number of starts.
        iterations: the most steps of Lloyd's algorithm.
        seed: the random seed of the starts.
    """
    problems, _, dim = points.shape
    # The draws come from NumPy, so that every device starts from the same points.
    draws = torch.from_numpy(np.random.default_rng([seed, k]).random((restarts, k))).to(
        points.device
    )
    # As many starts side by side as the device takes well.
    at_once = max(1, min(restarts, AT_ONCE[points.device.type] // points.numel()))
    centroids = []
    sse = []
    for batch in torch.split(draws, at_once):
        # Several starts run as further problems of one batch: all problems of a start, then the
        # next start's.
        copies = points.repeat(len(batch), 1, 1)
        starts = _plus_plus(copies, batch.repeat_interleave(problems, dim=0))
        ends = _lloyd(copies, starts, min(TRIAL, iterations))
        centroids.append(ends.reshape(len(batch), problems, -1, dim))
        # Sums in double precision decide between starts that are close to one another.
        sse.append(
            assign(copies, ends)[1].sum(1, dtype=torch.float64).reshape(len(batch), problems)
        )
    # The start with the least sum of squares, for each problem by itself.
    best = torch.cat(sse).argmin(0)
    start = torch.cat(centroids)[best, torch.arange(problems, device=points.device)]
    return _lloyd(points, start, iterations)


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centroid of each point and the squared distance to it, both (problem, n).

    The lowest label wins a tie.
    """
    # |x - c|^2 without |x|^2, which does not change the order: |c|^2 - 2 x.c
    affinity = torch.baddbmm(
        centroids.square().sum(-1)[:, None], points, centroids.transpose(1, 2), alpha=-2
    )
    nearest = affinity.min(-1)
    # Rounding may leave a distance slightly below zero.
    return nearest.indices, (nearest.values + points.square().sum(-1)).clamp_min(0)


def _plus_plus(points: Tensor, draws: Tensor) -> Tensor:
    """Return the starting centroids (problem, k, dim) of k-means++.

    Each is drawn with probability proportional to its squared distance from those before it, by
    draws (problem, k) in 0 .. 1.
    """
    problems, n, _ = points.shape
    rows = torch.arange(problems, device=points.device)
    # The first centroid is any point with equal probability.
    centroids = [points[rows, (draws[:, 0] * n).long().clamp_max(n - 1)]]
    # |x - c|^2 = |x|^2 + |c|^2 - 2 x.c, of which |x|^2 stays for all centroids.
    squares = points.square().sum(-1)

    def distances() -> Tensor:
        """Return squared distances (problem, n) to the last centroid."""
        last = centroids[-1]
        products = torch.bmm(points, last[:, :, None])[:, :, 0]
        return (squares + last.square().sum(-1, keepdim=True) - 2 * products).clamp_min(0)

    distance = distances()
    # No more centroids than points: a further one could only repeat another.
    for draw in draws.T[1 : min(draws.shape[1], n)]:
        # Invert the cumulative distribution: the first point at which it exceeds the draw.
        cumulative = distance.double().cumsum(1)
        index = torch.searchsorted(cumulative, (cumulative[:, -1] * draw)[:, None])[:, 0].clamp_max(
            n - 1
        )
        centroids.append(points[rows, index])
        # A point's distance is that to the nearest centroid so far.
        distance = torch.minimum(distance, distances())
    return torch.stack(centroids, dim=1)


def _lloyd(points: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Move the centroids until no point changes its cluster.

    Problems that are done leave the computation, a quarter of them at a time.
    """
    # Problems still at work, by their place among the centroids.
    active = torch.arange(len(points), device=points.device)
    remaining = points
    # Once for all steps, for the layout in which `_membership` is fast.
    transposed = points.transpose(1, 2).contiguous()
    member = points.new_zeros(len(points), centroids.shape[1], points.shape[1])
    for _ in range(iterations):
        # Assign every point to its nearest centroid, and stop where nothing changes any more.
        new = _membership(transposed, centroids[active])
        moving = (new != member).flatten(1).any(1)
        n_moving = int(moving.sum())
        if n_moving == 0:
            break
        # Dropping problems copies the points, so it waits until a quarter of them are done.
        if n_moving <= 0.75 * len(active):
            active = active[moving]
            remaining = remaining[moving]
            transposed = transposed[moving]
            new = new[moving]
        # Each centroid moves to its points' mean; one without points stays.
        member = new
        counts = new.sum(2, keepdim=True)
        means = torch.bmm(member, remaining) / counts.clamp_min(1)
        centroids[active] = torch.where(counts > 0, means, centroids[active])
    return centroids


def _membership(transposed: Tensor, centroids: Tensor) -> Tensor:
    """Return the nearest centroid of points (problem, dim, n) as one-hot over k, (problem, k, n).

    With points along the last dimension it is several times as fast as `assign`.
    """
    # As in `assign`: |c|^2 - 2 c.x, with points along the last dimension.
    affinity = torch.baddbmm(
        centroids.square().sum(-1)[:, :, None], centroids, transposed, alpha=-2
    )
    nearest = (affinity == affinity.amin(1, keepdim=True)).to(transposed)
    # Of equally near centroids the first one counts.
    if bool((nearest.sum(1) > 1).any()):
        nearest *= nearest.cumsum(1) == 1
    return nearest
