"""L2-regularised logistic regression, many problems at once, to scikit-learn's optimum.

    minimise over w, b:   C * sum_i weight_i * log(1 + exp(-s_i (x_i . w + b))) + |w|^2 / 2
    s_i = +1 or -1

The intercept is not penalised, as in scikit-learn. Newton's method on centred features (which moves
only the intercept), some ten steps; where the Hessian would be large, L-BFGS, preconditioned by the
Hessian at w = 0 or, where even that would be large, by its diagonal. A step needs the logits of its
direction once: along it the exact line search is free of matrix products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

MEMORY = 12
NEWTON_TO = 128
"""Largest dim for Newton's method, whose step costs dim^2 a row, in matrix products."""
FULL_HESSIAN_TO = 512
"""Largest dim for one such matrix, as the preconditioner."""
GAP = 1e-8
"""A problem is done when its estimated distance to the optimum is below this share of the
objective."""
CERTAIN = 30.0
"""Logit where all labels are the same: there is nothing to fit."""


class Fit(NamedTuple):
    """weights (problem, dim), bias (problem,), both float64; converged (problem,) bool."""

    weights: Tensor
    bias: Tensor
    converged: Tensor


def fit(
    features: Tensor, labels: Tensor, weights: Tensor, *, c: float = 1.0, max_iterations: int = 300
) -> Fit:
    """Solve all problems: features (problem, n, dim) float32 or float64, labels (problem, n) bool,
    weights (problem, n), 0 for rows to leave out. Labels and weights broadcast over problems. A
    problem whose kept labels are all the same has weights 0 and bias +-30.
    """
    count, n, dim = features.shape
    sample_weight = (weights.to(features).expand(count, n) * c).contiguous()
    truth = labels.to(features).expand(count, n)
    mean = torch.bmm(sample_weight[:, None], features) / sample_weight.sum(1)[
        :, None, None
    ].clamp_min(1e-30)
    centred = features - mean
    signs = truth.mul(2).sub(1)
    positive = (sample_weight * truth).sum(1) > 0
    negative = (sample_weight * (1 - truth)).sum(1) > 0
    mixed = positive & negative
    solution, converged = _minimise(centred, signs, sample_weight, ~mixed, max_iterations)
    w = solution[:, :dim]
    b = solution[:, dim]
    b = b - (w * mean[:, 0].double()).sum(1)
    w = torch.where(mixed[:, None], w, 0.0)
    constant = torch.where(positive, CERTAIN, -CERTAIN).double()
    return Fit(w, torch.where(mixed, b, constant), converged)


def objective(
    features: Tensor, labels: Tensor, weights: Tensor, found: Fit, *, c: float = 1.0
) -> Tensor:
    """The minimised function at a fit, (problem,) float64."""
    logits = torch.bmm(features.double(), found.weights[:, :, None])[:, :, 0] + found.bias[:, None]
    signs = labels.double() * 2 - 1
    return (
        c * (weights.double() * softplus(-signs * logits)).sum(1)
        + found.weights.square().sum(1) / 2
    )


def _minimise(
    x: Tensor, signs: Tensor, weight: Tensor, done: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """(problem, dim + 1) float64 solutions, intercept last, and which converged. `done` problems
    stay at 0."""
    count, _, dim = x.shape
    solution = torch.zeros(count, dim + 1, dtype=torch.float64, device=x.device)
    logits = torch.zeros_like(signs)
    gradient = _gradient(x, signs, weight, logits, solution)
    steps = _Newton(x, signs, weight) if dim <= NEWTON_TO else _History(_Preconditioner(x, weight))
    value = _value(signs, weight, logits, solution)
    for _ in range(limit):
        direction = steps.direction(gradient, logits)
        gap = -(direction * gradient).sum(1) / 2
        done = done | (gap <= GAP * value)
        if bool(done.all()):
            break
        direction = torch.where(done[:, None], 0.0, direction)
        step_logits = torch.bmm(direction[:, None, :dim].to(x), x.transpose(1, 2))[
            :, 0
        ] + direction[:, dim:].to(x)
        step, value = _line_search(signs, weight, logits, step_logits, solution, direction, value)
        moved = step[:, None] * direction
        solution = solution + moved
        logits = logits + step[:, None].to(x) * step_logits
        previous = gradient
        gradient = _gradient(x, signs, weight, logits, solution)
        steps.add(moved, gradient - previous)
        done = done | (step == 0)
    return solution, done


def _value(signs: Tensor, weight: Tensor, logits: Tensor, solution: Tensor) -> Tensor:
    loss = (weight * softplus(-signs * logits)).sum(1, dtype=torch.float64)
    return loss + solution[:, :-1].square().sum(1) / 2


def _gradient(x: Tensor, signs: Tensor, weight: Tensor, logits: Tensor, solution: Tensor) -> Tensor:
    residual = -weight * signs * torch.sigmoid(-signs * logits)
    of_weights = torch.bmm(residual[:, None], x)[:, 0].double() + solution[:, :-1]
    return torch.cat([of_weights, residual.sum(1, dtype=torch.float64)[:, None]], dim=1)


def _line_search(
    signs: Tensor,
    weight: Tensor,
    logits: Tensor,
    step_logits: Tensor,
    solution: Tensor,
    direction: Tensor,
    value: Tensor,
) -> tuple[Tensor, Tensor]:
    """Step lengths (problem,) and the objective there: Newton's method in one dimension, then
    halved until it falls."""
    w = solution[:, :-1]
    d = direction[:, :-1]
    along = (w * d).sum(1)
    square = d.square().sum(1)
    step = torch.ones_like(value)
    for _ in range(3):
        at = logits + step[:, None].to(logits) * step_logits
        wrong = torch.sigmoid(-signs * at)
        slope = (
            (-weight * signs * wrong * step_logits).sum(1, dtype=torch.float64)
            + along
            + step * square
        )
        curvature = (weight * wrong * (1 - wrong) * step_logits.square()).sum(
            1, dtype=torch.float64
        ) + square
        step = (step - slope / curvature.clamp_min(1e-30)).clamp(0.05, 20.0)
    moving = square + direction[:, -1].square() > 0
    step = torch.where(moving, step, 0.0)
    for _ in range(40):
        at = logits + step[:, None].to(logits) * step_logits
        new = _value(signs, weight, at, solution + step[:, None] * direction)
        worse = moving & ~(new <= value)
        if not bool(worse.any()):
            return step, new
        step = torch.where(worse, step / 2, step)
    return torch.where(worse, 0.0, step), torch.where(worse, value, new)


class _Newton:
    """Newton's direction: minus the inverse Hessian times the gradient, intercept last."""

    def __init__(self, x: Tensor, signs: Tensor, weight: Tensor) -> None:
        self.x = x
        self.signs = signs
        self.weight = weight
        count, _, dim = x.shape
        self.hessian = torch.empty(count, dim + 1, dim + 1, dtype=torch.float64, device=x.device)

    def direction(self, gradient: Tensor, logits: Tensor) -> Tensor:
        dim = self.x.shape[2]
        hessian = self.hessian
        wrong = torch.sigmoid(-self.signs * logits)
        curvature = self.weight * wrong * (1 - wrong)
        weighted = self.x * curvature[:, :, None]
        hessian[:, :dim, :dim] = torch.bmm(weighted.transpose(1, 2), self.x)
        hessian[:, dim, :dim] = hessian[:, :dim, dim] = weighted.sum(1)
        hessian[:, dim, dim] = curvature.sum(1)
        hessian[:, :dim, :dim].diagonal(dim1=1, dim2=2).add_(1.0)
        hessian[:, dim, dim].add_(1e-12)  # where every row is certain, or left out
        factor, failed = torch.linalg.cholesky_ex(hessian)
        found = torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        return -torch.where((failed > 0)[:, None], gradient, found)

    def add(self, moved: Tensor, change: Tensor) -> None:
        """Nothing is carried over: each step has its own Hessian."""


class _Preconditioner:
    """Inverse of the Hessian at w = 0, features centred, so that the intercept stands apart."""

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.factor: Tensor | None = None
        dim = x.shape[2]
        if dim <= FULL_HESSIAN_TO:
            hessian = torch.bmm((x * weight[:, :, None]).transpose(1, 2), x).double() / 4
            hessian.diagonal(dim1=1, dim2=2).add_(1.0)
            self.factor, failed = torch.linalg.cholesky_ex(hessian)
            if bool(failed.any()):
                self.factor = None
        diagonal = torch.cat(
            [torch.bmm(weight[:, None], x * x)[:, 0] / 4 + 1, weight.sum(1, keepdim=True) / 4], 1
        )
        self.diagonal = 1 / diagonal.double().clamp_min(1e-12)

    def __call__(self, q: Tensor) -> Tensor:
        if self.factor is None:
            return q * self.diagonal
        solved = torch.cholesky_solve(q[:, :-1, None], self.factor)[:, :, 0]
        return torch.cat([solved, q[:, -1:] * self.diagonal[:, -1:]], dim=1)


class _History:
    """The last steps and changes of the gradient, for the two-loop recursion of L-BFGS over all
    problems."""

    def __init__(self, inverse: _Preconditioner) -> None:
        self.inverse = inverse
        self.scale: Tensor | float = 1.0
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, moved: Tensor, change: Tensor) -> None:
        """A problem without positive curvature along its step (it stood still) keeps what it
        knows."""
        inner = (moved * change).sum(1, keepdim=True)
        valid = inner > 0
        rho = torch.where(valid, 1 / torch.where(valid, inner, 1.0), 0.0)
        ratio = inner / (change * self.inverse(change)).sum(1, keepdim=True).clamp_min(1e-300)
        self.scale = torch.where(valid, ratio, self.scale)
        self.steps = [*self.steps[1 - MEMORY :], (moved, change, rho)]

    def direction(self, gradient: Tensor, _logits: Tensor) -> Tensor:
        q = gradient.clone()
        alphas = []
        for moved, change, rho in reversed(self.steps):
            alpha = rho * (moved * q).sum(1, keepdim=True)
            alphas.append(alpha)
            q -= alpha * change
        q = self.inverse(q) * self.scale
        for (moved, change, rho), alpha in zip(self.steps, reversed(alphas), strict=True):
            q += (alpha - rho * (change * q).sum(1, keepdim=True)) * moved
        return -q
