"""k-means of many sets of points at once: Lloyd's algorithm from several seeded starts, the best one kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def kmeans(points: Tensor, k: int, *, restarts: int = 10, iterations: int = 300, seed: int = 0) -> Tensor:
    """Centroids (problem, k, dim) of points (problem, n, dim) with the least sum of squared distances found.

    Starts are drawn as k-means++ does, the same for equal inputs and seed. A centroid that no point is nearest to
    stays where it is.
    """
    problems, n, dim = points.shape
    draws = np.random.default_rng([seed, k]).random((restarts, k))
    best, best_sse = torch.empty(0), torch.empty(0)
    for start in range(restarts):
        centroids = _lloyd(points, _plus_plus(points, torch.from_numpy(draws[start]).to(points)), iterations)
        sse = assign(points, centroids)[1].sum(1, dtype=torch.float64)
        if start == 0:
            best, best_sse = centroids, sse
        better = sse < best_sse
        best = torch.where(better[:, None, None], centroids, best)
        best_sse = torch.where(better, sse, best_sse)
    return best.reshape(problems, min(k, n), dim)


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each point and the squared distance to it, both (problem, n); the lowest label wins a tie."""
    affinity = torch.baddbmm(centroids.square().sum(-1)[:, None], points, centroids.transpose(1, 2), alpha=-2)
    nearest = affinity.min(-1)
    return nearest.indices, (nearest.values + points.square().sum(-1)).clamp_min(0)


def _plus_plus(points: Tensor, draws: Tensor) -> Tensor:
    """Starting centroids (problem, k, dim): each drawn with probability proportional to its squared distance."""
    problems, n, _ = points.shape
    rows = torch.arange(problems, device=points.device)
    chosen = [points[:, min(int(draws[0] * n), n - 1)]]
    distance = (points - chosen[0][:, None]).square().sum(-1)
    for draw in draws[1 : min(len(draws), n)]:
        cumulative = distance.double().cumsum(1)
        at = torch.searchsorted(cumulative, (cumulative[:, -1:] * draw.double()).contiguous())[:, 0].clamp_max(n - 1)
        chosen.append(points[rows, at])
        distance = torch.minimum(distance, (points - chosen[-1][:, None]).square().sum(-1))
    return torch.stack(chosen, dim=1)


def _lloyd(points: Tensor, centroids: Tensor, iterations: int) -> Tensor:
    """Until no point changes its cluster; problems that are done leave the computation."""
    active = torch.arange(len(points), device=points.device)
    labels = torch.full(points.shape[:2], -1, device=points.device)
    for _ in range(iterations):
        of = points if len(active) == len(points) else points[active]
        new, _ = assign(of, centroids[active])
        moving = (new != labels[active]).any(1)
        if not bool(moving.any()):
            break
        labels[active] = new
        active, of, new = active[moving], of[moving], new[moving]
        member = torch.nn.functional.one_hot(new, centroids.shape[1]).to(points)
        counts = member.sum(1)
        means = torch.bmm(member.transpose(1, 2), of) / counts.clamp_min(1)[:, :, None]
        centroids[active] = torch.where(counts[:, :, None] > 0, means, centroids[active])
    return centroids
