"""L2-regularized logistic regression, many problems at once, to scikit-learn's optimum.

    minimize over w, b:   C * sum_i weight_i * log(1 + exp(-s_i (x_i . w + b))) + |w|^2 / 2
    with s_i = +1 or -1

The intercept is not penalized, as in scikit-learn. Features are centered, which moves only the
intercept. Newton's method takes some ten steps; where the Hessian would be large, L-BFGS takes its
place, preconditioned by the Hessian at w = 0 or, where even that would be large, by its diagonal. A
step needs the logits of its direction once: along it the exact line search is free of matrix
products.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from kvtool.features.logistic_steps import History, Newton, Preconditioner
from kvtool.features.threads import in_threads, lone_threads

NEWTON_TO = 128
"""Largest dim for Newton's method, whose step costs dim^2 a row, in matrix products."""
GAP = 1e-8
"""A problem is done when its estimated distance to the optimum is below this share of the
objective."""
CERTAIN = 30.0
"""Logit where all labels are the same: there is nothing to fit."""


class LogisticFit(NamedTuple):
    """Solutions of all problems: weights (problem, dim) and bias (problem,) in float64, and which
    converged, (problem,) bool."""

    weights: Tensor
    bias: Tensor
    converged: Tensor


def fit(
    features: Tensor, labels: Tensor, weights: Tensor, *, c: float = 1.0, max_iterations: int = 300
) -> LogisticFit:
    """Solve all problems. Labels and weights broadcast over problems.

    A problem whose labels (of rows with weight) are all the same has weights 0 and bias +-30.

    Args:
        features: (problem, n, dim) float32 or float64.
        labels: (problem, n) bool.
        weights: (problem, n), 0 for rows to leave out.
        c: the inverse strength of the regularization, as in scikit-learn.
        max_iterations: the most steps of the solver.
    """
    count, n, _ = features.shape
    # C scales the losses, so it may as well scale the rows' weights.
    sample_weight = weights.to(features).expand(count, n) * c
    truth = labels.to(features).expand(count, n)
    with lone_threads(features.device) as threads:
        # Some problems a thread: together they are done sooner than each by all threads.
        shares = [
            tensor.tensor_split(min(threads, max(count, 1)))
            for tensor in (features, truth, sample_weight)
        ]

        def fit_share(share: tuple[Tensor, Tensor, Tensor]) -> LogisticFit:
            """Solve a thread's problems."""
            return _fit(*share, max_iterations)

        fits = in_threads(fit_share, list(zip(*shares, strict=True)), threads)
    return LogisticFit(*map(torch.cat, zip(*fits, strict=True)))


def _fit(features: Tensor, truth: Tensor, sample_weight: Tensor, limit: int) -> LogisticFit:
    """Solve problems of labels 0 or 1, `truth` (problem, n), whose rows have weights."""
    dim = features.shape[2]
    sample_weight = sample_weight.contiguous()
    # Center the features on their weighted mean: the intercept becomes nearly independent of the
    # weights, and the Hessian better conditioned.
    mean = torch.bmm(sample_weight[:, None], features) / sample_weight.sum(1)[
        :, None, None
    ].clamp_min(1e-30)
    centered = features - mean
    signs = truth.mul(2).sub(1)
    # A problem of one label only has no finite optimum: it is answered below.
    positive = (sample_weight * truth).sum(1) > 0
    negative = (sample_weight * (1 - truth)).sum(1) > 0
    mixed = positive & negative
    solution, converged = _minimize(centered, signs, sample_weight, ~mixed, limit)
    # Take the centering back: it moved the intercept alone.
    w = solution[:, :dim]
    b = solution[:, dim]
    b = b - (w * mean[:, 0].double()).sum(1)
    w = torch.where(mixed[:, None], w, 0.0)
    constant = torch.where(positive, CERTAIN, -CERTAIN).double()
    return LogisticFit(w, torch.where(mixed, b, constant), converged)


def fit_standardized(
    features: Tensor, labels: Tensor, weights: Tensor, *, c: float = 1.0
) -> LogisticFit:
    """Solve all problems on standardized features; the solutions are for the features as they are.

    Each channel has mean 0 and deviation 1 over the rows with weight. The penalty would otherwise
    weigh what varies little more, and the vectors of layers differ in size by orders of magnitude:
    one C would be another strength in each of them. Arguments are those of `fit`.
    """
    # Weights as shares, so that moments are products with them.
    count, n, _ = features.shape
    share = weights.to(features).expand(count, n)
    share = share / share.sum(1, keepdim=True).clamp_min(1e-30)
    mean = torch.bmm(share[:, None], features)
    centered = features - mean
    deviation = torch.bmm(share[:, None], centered.square()).sqrt()
    # Rounding leaves a constant channel a tiny deviation: it must not be blown up.
    is_varying = deviation > 1e-6 * (mean.abs() + deviation)
    inverse = torch.where(is_varying, 1 / deviation.clamp_min(1e-30), 0.0)
    solution = fit(centered * inverse, labels, weights, c=c)
    # Take standardizing back: w . (x - mean) / deviation + b is linear in x.
    scaled = solution.weights * inverse[:, 0].double()
    bias = solution.bias - (scaled * mean[:, 0].double()).sum(1)
    return LogisticFit(scaled, bias, solution.converged)


def objective(
    features: Tensor, labels: Tensor, weights: Tensor, solution: LogisticFit, *, c: float = 1.0
) -> Tensor:
    """Return the minimized function at a fit, (problem,) float64."""
    logits = (
        torch.bmm(features.double(), solution.weights[:, :, None])[:, :, 0] + solution.bias[:, None]
    )
    signs = labels.double() * 2 - 1
    return (
        c * (weights.double() * softplus(-signs * logits)).sum(1)
        + solution.weights.square().sum(1) / 2
    )


def _minimize(
    x: Tensor, signs: Tensor, weight: Tensor, done: Tensor, limit: int
) -> tuple[Tensor, Tensor]:
    """Return the solutions (problem, dim + 1) in float64, intercept last, and which converged.

    Problems that are `done` stay at 0.
    """
    count, _, dim = x.shape
    solution = torch.zeros(count, dim + 1, dtype=torch.float64, device=x.device)
    logits = torch.zeros_like(signs)
    gradient = _gradient(x, signs, weight, logits, solution)
    # Newton's method where its Hessian is small, L-BFGS above.
    steps = Newton(x, signs, weight) if dim <= NEWTON_TO else History(Preconditioner(x, weight))
    value = _value(signs, weight, logits, solution)
    for _ in range(limit):
        # Near the optimum the Hessian hardly changes: the last one tells most ends, at no cost.
        done = done | (2 * steps.former_gap(gradient) <= GAP * value)
        if bool(done.all()):
            break
        direction = steps.direction(gradient, logits)
        # Half the Newton decrement estimates how far the objective is above its optimum.
        gap = -(direction * gradient).sum(1) / 2
        done = done | (gap <= GAP * value)
        if bool(done.all()):
            break
        # A problem that is done takes no further step.
        direction = torch.where(done[:, None], 0.0, direction)
        # The logits are linear in the solution: along the direction they change at this rate.
        step_logits = torch.bmm(direction[:, None, :dim].to(x), x.transpose(1, 2))[
            :, 0
        ] + direction[:, dim:].to(x)
        step, value = _line_search(signs, weight, logits, step_logits, solution, direction, value)
        # Take the step, and tell the solver how the gradient changed along it.
        moved = step[:, None] * direction
        solution = solution + moved
        logits = logits + step[:, None].to(x) * step_logits
        previous = gradient
        gradient = _gradient(x, signs, weight, logits, solution)
        steps.add(moved, gradient - previous)
        # Where no step lowers the objective, rounding is all that remains.
        done = done | (step == 0)
    return solution, done


def _value(signs: Tensor, weight: Tensor, logits: Tensor, solution: Tensor) -> Tensor:
    """Return the objective (problem,); the sum of losses is in double precision."""
    loss = (weight * softplus(-signs * logits)).sum(1, dtype=torch.float64)
    return loss + solution[:, :-1].square().sum(1) / 2


def _gradient(x: Tensor, signs: Tensor, weight: Tensor, logits: Tensor, solution: Tensor) -> Tensor:
    """Return the gradient (problem, dim + 1), intercept last."""
    # The derivative of each row's loss by its logit.
    residual = -weight * signs * torch.sigmoid(-signs * logits)
    weight_gradient = torch.bmm(residual[:, None], x)[:, 0].double() + solution[:, :-1]
    return torch.cat([weight_gradient, residual.sum(1, dtype=torch.float64)[:, None]], dim=1)


def _line_search(
    signs: Tensor,
    weight: Tensor,
    logits: Tensor,
    step_logits: Tensor,
    solution: Tensor,
    direction: Tensor,
    value: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return step lengths (problem,) and the objective there.

    Newton's method in one dimension comes first, then the step is halved until the objective falls.
    """
    # Along the direction the penalty is a parabola: its slope and curvature need these products
    # alone.
    along = (solution[:, :-1] * direction[:, :-1]).sum(1)
    square = direction[:, :-1].square().sum(1)
    step = _newton_length(signs, weight, logits, step_logits, along, square)
    # A direction of zeros has no length to search for.
    moving = square + direction[:, -1].square() > 0
    step = torch.where(moving, step, 0.0)
    # Halve the step where the objective rose; NaN counts as risen.
    for _ in range(40):
        moved_logits = logits + step[:, None].to(logits) * step_logits
        new = _value(signs, weight, moved_logits, solution + step[:, None] * direction)
        worse = moving & ~(new <= value)
        if not bool(worse.any()):
            return step, new
        step = torch.where(worse, step / 2, step)
    return torch.where(worse, 0.0, step), torch.where(worse, value, new)


def _newton_length(
    signs: Tensor,
    weight: Tensor,
    logits: Tensor,
    step_logits: Tensor,
    along: Tensor,
    square: Tensor,
) -> Tensor:
    """Return step lengths (problem,) by Newton's method; the penalty is along * s + square / 2 *
    s^2."""
    step = torch.ones_like(along)
    # Three steps of the one-dimensional problem come close enough; lengths stay within sane bounds.
    for _ in range(3):
        moved_logits = logits + step[:, None].to(logits) * step_logits
        wrong = torch.sigmoid(-signs * moved_logits)
        # First and second derivative of losses and penalty by the step's length.
        slope = (
            (-weight * signs * wrong * step_logits).sum(1, dtype=torch.float64)
            + along
            + step * square
        )
        curvature = (weight * wrong * (1 - wrong) * step_logits.square()).sum(
            1, dtype=torch.float64
        ) + square
        step = (step - slope / curvature.clamp_min(1e-30)).clamp(0.05, 20.0)
    return step
