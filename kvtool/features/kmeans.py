"""k-means of many sets of points at once: Lloyd's algorithm from several seeded starts, the best
one kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
"""Point values of the starts that run side by side: what a CPU's cache holds, or fills a GPU."""


def kmeans(
    points: Tensor, k: int, *, restarts: int = 10, iterations: int = 300, seed: int = 0
) -> Tensor:
    """Centroids (problem, k, dim) of points (problem, n, dim) with the least sum of squared
    distances found.

    Starts are drawn as k-means++ does, the same for equal inputs and seed. A centroid that no point
    is nearest to stays where it is.
    """
    problems, _, dim = points.shape
    draws = torch.from_numpy(np.random.default_rng([seed, k]).random((restarts, k))).to(
        points.device
    )
    at_once = max(1, min(restarts, AT_ONCE[points.device.type] // points.numel()))
    found = []
    sse = []
    for some in torch.split(draws, at_once):
        copies = points.repeat(len(some), 1, 1)
        centroids = _lloyd(
            copies, _plus_plus(copies, some.repeat_interleave(problems, dim=0)), iterations
        )
        found.append(centroids.reshape(len(some), problems, -1, dim))
        sse.append(
            assign(copies, centroids)[1].sum(1, dtype=torch.float64).reshape(len(some), problems)
        )
    best = torch.cat(sse).argmin(0)
    return torch.cat(found)[best, torch.arange(problems, device=points.device)]


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each point and the squared distance to it, both (problem, n); the lowest
    label wins a tie."""
    affinity = torch.baddbmm(
        centroids.square().sum(-1)[:, None], points, centroids.transpose(1, 2), alpha=-2
    )
    nearest = affinity.min(-1)
    return nearest.indices, (nearest.values + points.square().sum(-1)).clamp_min(0)


def _plus_plus(points: Tensor, draws: Tensor) -> Tensor:
    """Starting centroids (problem, k, dim): each drawn with probability proportional to its squared
    distance from those before it, by draws (problem, k) in 0 .. 1."""
    problems, n, _ = points.shape
    rows = torch.arange(problems, device=points.device)
    chosen = [points[rows, (draws[:, 0] * n).long().clamp_max(n - 1)]]
    squares = points.square().sum(-1)

    def distances() -> Tensor:
        """(problem, n) squared, to the last one chosen."""
        last = chosen[-1]
        products = torch.bmm(points, last[:, :, None])[:, :, 0]
        return (squares + last.square().sum(-1, keepdim=True) - 2 * products).clamp_min(0)

    distance = distances()
    for draw in draws.T[1 : min(draws.shape[1], n)]:
        cumulative = distance.double().cumsum(1)
        at = torch.searchsorted(cumulative, (cumulative[:, -1] * draw)[:, None])[:, 0].clamp_max(
            n - 1
        )
        chosen.append(points[rows, at])
        distance = torch.minimum(distance, distances())
    return torch.stack(chosen, dim=1)


def _lloyd(points: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Until no point changes its cluster; problems that are done leave the computation, a quarter
    of them at a time."""
    active = torch.arange(len(points), device=points.device)
    of = points
    across = points.transpose(1, 2).contiguous()
    member = points.new_zeros(len(points), centroids.shape[1], points.shape[1])
    for _ in range(iterations):
        new = _membership(across, centroids[active])
        moving = (new != member).flatten(1).any(1)
        n_moving = int(moving.sum())
        if n_moving == 0:
            break
        if n_moving <= 0.75 * len(active):
            active = active[moving]
            of = of[moving]
            across = across[moving]
            new = new[moving]
        member = new
        counts = new.sum(2, keepdim=True)
        means = torch.bmm(member, of) / counts.clamp_min(1)
        centroids[active] = torch.where(counts > 0, means, centroids[active])
    return centroids


def _membership(across: Tensor, centroids: Tensor) -> Tensor:
    """(problem, k, n) one-hot over k: the nearest centroid of points (problem, dim, n). With points
    along the last dimension it is several times as fast as `assign`."""
    affinity = torch.baddbmm(centroids.square().sum(-1)[:, :, None], centroids, across, alpha=-2)
    nearest = (affinity == affinity.amin(1, keepdim=True)).to(across)
    if bool((nearest.sum(1) > 1).any()):
        nearest *= nearest.cumsum(1) == 1
    return nearest
