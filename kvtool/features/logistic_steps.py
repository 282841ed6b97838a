"""Directions of the steps of kvtool.features.logistic: Newton's, and those of L-BFGS."""

from __future__ import annotations

import torch
from torch import Tensor

MEMORY = 12
"""Steps that L-BFGS remembers."""
FULL_HESSIAN_TO = 512
"""Largest dim for one matrix of dim x dim as the preconditioner."""


def solve_factored(factor: Tensor, right: Tensor) -> Tensor:
    """Return x (problem, dim) of L L' x = right, by the lower Cholesky factors L (problem, dim,
    dim).

    Two triangular solves: torch.cholesky_solve copies the factors for the same bits, which was most
    of a few-shot probe's time (dim 384, 12 problems: 37 ms against 1 ms).
    """
    # Forward with L, then backward with its transpose.
    half: Tensor = torch.linalg.solve_triangular(factor, right[:, :, None], upper=False)
    solution: Tensor = torch.linalg.solve_triangular(factor.transpose(1, 2), half, upper=True)
    return solution[:, :, 0]


class Newton:
    """Newton's direction: minus the inverse Hessian times the gradient, intercept last."""

    def __init__(self, x: Tensor, signs: Tensor, weight: Tensor) -> None:
        self.x = x
        self.signs = signs
        self.weight = weight
        count, _, dim = x.shape
        self.hessian = torch.empty(count, dim + 1, dim + 1, dtype=torch.float64, device=x.device)
        self.factor: Tensor | None = None
        self.failed = torch.zeros(count, dtype=torch.bool, device=x.device)

    def former_gap(self, gradient: Tensor) -> Tensor:
        """Return half the Newton decrement (problem,) by the last step's Hessian, which costs no
        new one; infinite where there is none."""
        if self.factor is None:
            return torch.full_like(gradient[:, 0], torch.inf)
        # g' H^-1 g: twice what a quadratic with this Hessian would still fall.
        decrement = (gradient * solve_factored(self.factor, gradient)).sum(1)
        return torch.where(self.failed, torch.inf, decrement / 2)

    def direction(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Return the direction (problem, dim + 1) at these logits."""
        dim = self.x.shape[2]
        hessian = self.hessian
        # The curvature of each row's loss by its logit.
        wrong = torch.sigmoid(-self.signs * logits)
        curvature = self.weight * wrong * (1 - wrong)
        weighted = self.x * curvature[:, :, None]
        # Assemble X' D X with the intercept as a last row and column, and the penalty on the
        # diagonal.
        hessian[:, :dim, :dim] = torch.bmm(weighted.transpose(1, 2), self.x)
        hessian[:, dim, :dim] = hessian[:, :dim, dim] = weighted.sum(1)
        hessian[:, dim, dim] = curvature.sum(1)
        hessian[:, :dim, :dim].diagonal(dim1=1, dim2=2).add_(1.0)
        hessian[:, dim, dim].add_(1e-12)  # where every row is certain, or left out
        # Where the factorization fails, steepest descent takes the step.
        self.factor, info = torch.linalg.cholesky_ex(hessian)
        self.failed = info > 0
        # A failed factor gives numbers that mean nothing, which the next line drops.
        solution = solve_factored(self.factor, gradient)
        return -torch.where(self.failed[:, None], gradient, solution)

    def add(self, moved: Tensor, change: Tensor) -> None:
        """Do nothing: each step has a Hessian of its own."""


class Preconditioner:
    """Inverse of the Hessian at w = 0, features centered, so that the intercept stands apart."""

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.factor: Tensor | None = None
        dim = x.shape[2]
        # At w = 0 every row's curvature is weight / 4.
        if dim <= FULL_HESSIAN_TO:
            hessian = torch.bmm((x * weight[:, :, None]).transpose(1, 2), x).double() / 4
            hessian.diagonal(dim1=1, dim2=2).add_(1.0)
            self.factor, failed = torch.linalg.cholesky_ex(hessian)
            if bool(failed.any()):
                self.factor = None
        # The diagonal serves the intercept, and all weights where the matrix would be too large.
        diagonal = torch.cat(
            [torch.bmm(weight[:, None], x * x)[:, 0] / 4 + 1, weight.sum(1, keepdim=True) / 4], 1
        )
        self.diagonal = 1 / diagonal.double().clamp_min(1e-12)

    def __call__(self, q: Tensor) -> Tensor:
        if self.factor is None:
            return q * self.diagonal
        # Centered features make the Hessian block-diagonal: weights here, intercept there.
        solved = solve_factored(self.factor, q[:, :-1])
        return torch.cat([solved, q[:, -1:] * self.diagonal[:, -1:]], dim=1)


class History:
    """The last steps and changes of the gradient, for the two-loop recursion of L-BFGS."""

    def __init__(self, inverse: Preconditioner) -> None:
        self.inverse = inverse
        self.scale: Tensor | float = 1.0
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, moved: Tensor, change: Tensor) -> None:
        """Take in a step and the change of the gradient along it, both (problem, dim + 1).

        A problem without positive curvature along its step (it stood still) keeps its history.
        """
        # Only positive curvature keeps the inverse Hessian positive definite.
        inner = (moved * change).sum(1, keepdim=True)
        valid = inner > 0
        rho = torch.where(valid, 1 / torch.where(valid, inner, 1.0), 0.0)
        # The last step's curvature scales the preconditioner to the present Hessian.
        ratio = inner / (change * self.inverse(change)).sum(1, keepdim=True).clamp_min(1e-300)
        self.scale = torch.where(valid, ratio, self.scale)
        self.steps = [*self.steps[1 - MEMORY :], (moved, change, rho)]

    def former_gap(self, gradient: Tensor) -> Tensor:
        """Return infinity (problem,): a direction costs little, and tells the gap."""
        return torch.full_like(gradient[:, 0], torch.inf)

    def direction(self, gradient: Tensor, _logits: Tensor) -> Tensor:
        """Return the direction (problem, dim + 1) by the two-loop recursion."""
        q = gradient.clone()
        alphas = []
        # First loop, newest to oldest: take each step's part out of the gradient.
        for moved, change, rho in reversed(self.steps):
            alpha = rho * (moved * q).sum(1, keepdim=True)
            alphas.append(alpha)
            q -= alpha * change
        # The preconditioner stands for the Hessian before the first step.
        q = self.inverse(q) * self.scale
        # Second loop, oldest to newest: correct by what each step learned.
        for (moved, change, rho), alpha in zip(self.steps, reversed(alphas), strict=True):
            q += (alpha - rho * (change * q).sum(1, keepdim=True)) * moved
        return -q
