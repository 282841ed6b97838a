"""Every backend against a double loop, with ties on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.errors import UsageError
from kvtool.features import neighbors
from kvtool.features.neighbors import Metric
from kvtool.types import Backend

Array = np.ndarray[Any, Any]
BACKENDS: list[Backend] = [
    name for name in ("faiss-gpu", "faiss-cpu", "torch", "numpy") if neighbors.available()[name]
]


def loop(queries: Array, targets: Array, k: int, metric: Metric) -> Array:
    """Indices by definition: every pair in Python's exact-enough doubles, sorted by (score,
    index).
    """
    indices = np.empty((*queries.shape[:2], k), np.int64)
    for head in range(len(queries)):
        for row, query in enumerate(queries[head].astype(float)):
            scores = []
            for index, target in enumerate(targets[head].astype(float)):
                if metric == "cosine":
                    norm = np.linalg.norm(query) * np.linalg.norm(target)
                    score = query @ target / norm if norm else 0.0
                else:
                    score = -((query - target) ** 2).sum()
                scores.append((-round(score, 6), index))
            indices[head, row] = [index for _, index in sorted(scores)[:k]]
    return indices


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 5])
def test_backends_agree_with_the_loop(backend: Backend, metric: Metric, k: int) -> None:
    rng = np.random.default_rng(0)
    queries, targets = rng.normal(size=(3, 20, 8)), rng.normal(size=(3, 50, 8))
    scores, indices = neighbors.nearest(queries, targets, k, metric=metric, backend=backend)
    np.testing.assert_array_equal(indices, loop(queries, targets, k, metric))
    expected, _ = neighbors.nearest(queries, targets, k, metric=metric, backend="numpy")
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["cosine", "l2"]), st.integers(1, 4))
def test_ties_go_to_the_lowest_index(seed: int, metric: Metric, k: int) -> None:
    """Few distinct small integer vectors: duplicates, zeros and exact ties abound."""
    rng = np.random.default_rng(seed)
    queries, targets = rng.integers(-1, 2, size=(2, 6, 3)), rng.integers(-1, 2, size=(2, 30, 3))
    expected = loop(queries, targets, k, metric)
    for backend in BACKENDS:
        np.testing.assert_array_equal(
            neighbors.nearest(queries, targets, k, metric=metric, backend=backend)[1],
            expected,
            err_msg=backend,
        )


@pytest.mark.parametrize("backend", BACKENDS)
def test_duplicates_and_degenerate_targets(backend: Backend) -> None:
    rng = np.random.default_rng(1)
    targets = np.repeat(rng.normal(size=(1, 40, 128)), 3, axis=1)
    _, indices = neighbors.nearest(targets, targets, 3, backend=backend)
    np.testing.assert_array_equal(indices[0], 3 * (np.arange(120) // 3)[:, None] + np.arange(3))
    constant = np.ones((1, 9, 4))
    assert neighbors.nearest(constant, constant, backend=backend)[1].max() == 0


def test_chunked_search_is_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    queries, targets = rng.normal(size=(2, 33, 16)), rng.normal(size=(2, 21, 16))
    full = neighbors.nearest(queries, targets, 2, backend="torch")
    monkeypatch.setattr(neighbors, "CHUNK", 100)
    for backend in ("torch", "numpy"):
        parts = neighbors.nearest(queries, targets, 2, backend=backend)
        np.testing.assert_array_equal(parts[1], full[1])
        np.testing.assert_allclose(parts[0], full[0], atol=1e-6)


def test_two_runs_are_equal() -> None:
    queries, targets = torch.randn(4, 50, 32), torch.randn(4, 300, 32)
    first, second = (neighbors.nearest(queries, targets, 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"faiss-gpu": True, "faiss-cpu": True, "torch": True, "numpy": True}
    monkeypatch.setattr(neighbors, "available", lambda: have)
    assert neighbors.choose("auto", 100, True) == "faiss-gpu"
    assert neighbors.choose("auto", 100, False) == "torch"
    assert neighbors.choose("auto", neighbors.FAISS_CPU_FROM, False) == "faiss-cpu"
    have |= {"faiss-gpu": False, "faiss-cpu": False}
    assert neighbors.choose("auto", 100, True) == "torch"
    assert neighbors.choose("auto", neighbors.FAISS_CPU_FROM, False) == "torch"
    with pytest.raises(UsageError, match=r"install kvtool\[gpu\]"):
        neighbors.choose("faiss-gpu", 1, True)
    with pytest.raises(UsageError, match="unknown backend 'annoy'"):
        neighbors.choose("annoy", 1, True)  # type: ignore[arg-type]


def test_bad_requests() -> None:
    vectors = np.ones((1, 3, 2))
    with pytest.raises(UsageError, match="k is 1 to"):
        neighbors.nearest(vectors, vectors, 4)
    with pytest.raises(UsageError, match="metric is cosine or l2"):
        neighbors.nearest(vectors, vectors, metric="dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected"):
        neighbors.nearest(vectors, np.ones((2, 3, 2)))
