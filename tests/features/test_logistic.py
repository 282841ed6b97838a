"""Batched logistic regression against scikit-learn, problem by problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kvtool.features import logistic
from kvtool.features.logistic_steps import FULL_HESSIAN_TO, Newton, solve_factored


def planted(
    problems: int, n: int, dim: int, seed: int, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (problem, n, dim) and shared labels (1, n) of the difficulties that real blocks
    have.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(1, n, generator=generator) < 0.2
    x = torch.randn(problems, n, dim, generator=generator)
    x[..., 0] += 2.0 * labels
    if kind == "separable":
        x[..., 1] += 40.0 * labels
    elif kind == "outlier":
        x[..., 2] = 500 + 30 * x[..., 2]
    elif kind == "small":
        x = 0.01 * x + 0.3
    elif kind == "collinear":
        x[..., 3] = x[..., 0]
        x[..., 4] = 0.0
    return x, labels


@pytest.mark.parametrize("kind", ["plain", "separable", "outlier", "small", "collinear"])
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_objective_is_scikit_learns(kind: str, c: float) -> None:
    x, labels = planted(3, 700, 24, 0, kind)
    weights = torch.ones(1, 700)
    weights[0, ::7] = 0
    solution = logistic.fit(x, labels, weights, c=c)
    assert solution.converged.all()
    ours = logistic.objective(x, labels, weights, solution, c=c)
    keep = weights[0] > 0
    for i in range(3):
        model = LogisticRegression(C=c, tol=1e-12, max_iter=100_000, solver="newton-cholesky")
        model.fit(x[i, keep].double().numpy(), labels[0, keep].numpy())
        peer = logistic.LogisticFit(
            torch.tensor(model.coef_), torch.tensor(model.intercept_), solution.converged[:1]
        )
        theirs = logistic.objective(x[i : i + 1], labels, weights, peer, c=c)[0]
        assert float(ours[i]) <= float(theirs) * (1 + 1e-6)
        logits = x[i].double() @ solution.weights[i] + solution.bias[i]
        agreement = ((logits > 0).numpy() == model.predict(x[i].double().numpy())).mean()
        assert agreement > 0.995


def test_a_batch_is_its_problems_alone() -> None:
    x, labels = planted(4, 300, 16, 1, "plain")
    together = logistic.fit(x, labels, torch.ones(1, 300))
    for i in range(4):
        single = logistic.fit(x[i : i + 1], labels, torch.ones(1, 300))
        np.testing.assert_allclose(together.weights[i], single.weights[0], rtol=1e-3, atol=1e-4)


def test_one_class_alone_is_predicted_everywhere() -> None:
    x = torch.randn(2, 50, 8)
    labels = torch.tensor([[True], [False]]).expand(2, 50)
    solution = logistic.fit(x, labels, torch.ones(2, 50))
    assert solution.bias.tolist() == [logistic.CERTAIN, -logistic.CERTAIN]
    assert not solution.weights.any()
    assert torch.isfinite(logistic.objective(x, labels, torch.ones(2, 50), solution)).all()


def test_labels_that_only_the_left_out_rows_have() -> None:
    x, labels = torch.randn(1, 20, 4), torch.zeros(1, 20, dtype=torch.bool)
    labels[0, 3] = True
    weights = torch.ones(1, 20)
    weights[0, 3] = 0
    assert logistic.fit(x, labels, weights).bias.tolist() == [-logistic.CERTAIN]


@pytest.mark.parametrize("dim", [logistic.NEWTON_TO, logistic.NEWTON_TO + 1, FULL_HESSIAN_TO + 1])
def test_every_method_reaches_the_same_optimum(dim: int) -> None:
    x, labels = planted(2, 400, dim, 2, "plain")
    solution = logistic.fit(x, labels, torch.ones(1, 400))
    assert solution.converged.all()
    model = LogisticRegression(tol=1e-12, max_iter=100_000, solver="newton-cholesky")
    model.fit(x[0].double().numpy(), labels[0].numpy())
    peer = logistic.LogisticFit(
        torch.tensor(model.coef_), torch.tensor(model.intercept_), solution.converged[:1]
    )
    ours = logistic.objective(x, labels, torch.ones(1, 400), solution)
    theirs = logistic.objective(x[:1], labels, torch.ones(1, 400), peer)
    assert float(ours[0]) <= float(theirs[0]) * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [1, 9, 65, 200])
def test_two_triangular_solves_are_the_solution(dim: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(dim)
    root = torch.randn(3, dim, dim, generator=generator, dtype=dtype)
    matrix = root @ root.transpose(1, 2) / dim + torch.eye(dim, dtype=dtype)
    right = torch.randn(3, dim + 1, generator=generator, dtype=dtype)[:, :-1]
    solution = solve_factored(torch.linalg.cholesky(matrix), right)
    expected = torch.linalg.solve(matrix.double(), right.double())
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    assert torch.allclose(solution.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["plain", "outlier", "small", "collinear"])
def test_standardized_is_scikit_learns_on_scaled_features(kind: str) -> None:
    x, labels = planted(3, 500, 12, 2, kind)
    weights = torch.ones(1, 500)
    weights[0, ::9] = 0
    solution = logistic.fit_standardized(x, labels, weights, c=0.1)
    used = (weights[0] > 0).numpy()
    for i in range(3):
        rows = x[i].double().numpy()
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-12, max_iter=9999))
        model.fit(rows[used], labels[0].numpy()[used])
        logits = x[i].double() @ solution.weights[i] + solution.bias[i]
        np.testing.assert_allclose(logits.numpy(), model.decision_function(rows), atol=2e-3)


def test_the_size_of_a_layers_vectors_is_no_strength_of_the_penalty() -> None:
    """Of vectors a hundredth of the size the plain fit is near its prior, the other is the same."""
    x, labels = planted(1, 500, 12, 3, "plain")
    weights = torch.ones(1, 500)

    def right(fit: logistic.LogisticFit, features: torch.Tensor) -> torch.Tensor:
        logits = features[0].double() @ fit.weights[0] + fit.bias[0]
        return ((logits > 0) == labels[0]).double().mean()

    small = 0.01 * x
    sizes = (x, small)
    plain = [right(logistic.fit(features, labels, weights), features) for features in sizes]
    fits = [logistic.fit_standardized(features, labels, weights) for features in sizes]
    scaled = [right(fit, features) for fit, features in zip(fits, sizes, strict=True)]
    assert plain[0] - plain[1] > 0.03
    assert scaled[0] == scaled[1]


@pytest.mark.parametrize("kind", ["plain", "separable", "outlier", "small", "collinear"])
def test_the_last_hessian_tells_the_end_at_no_cost(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One Hessian less where all problems end at once, and the same bits."""
    x, labels = planted(3, 700, 24, 0, kind)
    n_hessians = 0
    direction = Newton.direction

    def counted(steps: Newton, gradient: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        nonlocal n_hessians
        n_hessians += 1
        return direction(steps, gradient, logits)

    monkeypatch.setattr(Newton, "direction", counted)
    saving = logistic.fit(x, labels, torch.ones(1, 700))
    n_saving, n_hessians = n_hessians, 0
    monkeypatch.setattr(
        Newton, "former_gap", lambda _, gradient: torch.full_like(gradient[:, 0], torch.inf)
    )
    asking = logistic.fit(x, labels, torch.ones(1, 700))
    assert n_saving == n_hessians - 1
    assert torch.equal(saving.weights, asking.weights)
    assert torch.equal(saving.bias, asking.bias)
