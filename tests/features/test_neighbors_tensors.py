"""FAISS on tensors where they lie, as on a GPU; and the reference of a GPU against NumPy's."""

from __future__ import annotations

from typing import Any

import faiss
import faiss.contrib.torch_utils  # before a test replaces what it replaces
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.features import neighbors
from kvtool.features.neighbors import Metric


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_faiss_gets_tensors_a_call_a_head(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches FAISS is part of the tensors of all heads: nothing is copied on its way."""
    searches: list[tuple[torch.Tensor, torch.Tensor]] = []
    search = faiss.knn

    def watch(queries: Any, targets: Any, k: int, metric: int) -> Any:
        searches.append((queries, targets))
        return search(queries, targets, k, metric=metric)

    monkeypatch.setattr(faiss, "knn", watch)
    queries, targets = torch.randn(3, 20, 8), torch.randn(3, 50, 8)
    scores, indices = neighbors.nearest(queries, targets, 2, metric=metric, backend="faiss-cpu")
    assert len(searches) == 3
    for tensors in zip(*searches, strict=True):
        assert {tensor.untyped_storage().data_ptr() for tensor in tensors} == {
            tensors[0].untyped_storage().data_ptr()
        }
        assert [tensor.storage_offset() for tensor in tensors] == [
            head * tensors[0].numel() for head in range(3)
        ]
    expected = neighbors.nearest(queries, targets, 2, metric=metric, backend="torch")
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(scores, expected[0], atol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_faiss_takes_vectors_that_lie_in_any_order(metric: Metric) -> None:
    # (head, n, dim), its channels stored first.
    queries, targets = torch.randn(2, 8, 20).mT, torch.randn(2, 8, 50).bfloat16().mT
    expected = neighbors.nearest(queries, targets, 2, metric=metric, backend="numpy")
    result = neighbors.nearest(queries, targets, 2, metric=metric, backend="faiss-cpu")
    np.testing.assert_array_equal(result[1], expected[1])


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["cosine", "l2"]), st.integers(1, 4))
def test_the_reference_on_a_device_is_numpys(seed: int, metric: Metric, k: int) -> None:
    """Duplicates, zeros, exact ties, and vectors that are not finite."""
    rng = np.random.default_rng(seed)
    queries, targets = rng.integers(-1, 2, (6, 3)), rng.integers(-1, 2, (30, 3)).astype(float)
    targets[rng.integers(30, size=2), 0] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        expected = neighbors._reference_head(queries.astype(float), targets, k, metric)
    tensors = torch.from_numpy(queries).float(), torch.from_numpy(targets).float()
    scores, indices = neighbors._reference_on_device(*tensors, k, metric)
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_allclose(scores, expected[0])


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_target_that_is_not_finite_leaves_the_others_in_order(hole: float) -> None:
    rng = np.random.default_rng(0)
    queries, targets = rng.normal(size=(6, 3)), rng.normal(size=(30, 3))
    expected = neighbors._reference_head(queries, targets[:-1], 3, "l2")
    targets[-1, 0] = hole
    with np.errstate(invalid="ignore"):
        result = neighbors._reference_head(queries, targets, 3, "l2")
    tensors = torch.from_numpy(queries), torch.from_numpy(targets)
    for search in (result, neighbors._reference_on_device(*tensors, 3, "l2")):
        np.testing.assert_array_equal(search[1], expected[1])
        np.testing.assert_allclose(search[0], expected[0])


def test_the_reference_on_a_device_is_the_whole_of_its_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries, targets = torch.randn(33, 16), torch.randn(21, 16)
    full = neighbors._reference_on_device(queries, targets, 2, "cosine")
    monkeypatch.setattr(neighbors, "CHUNK", 100)
    parts = neighbors._reference_on_device(queries, targets, 2, "cosine")
    np.testing.assert_array_equal(parts[1], full[1])
    np.testing.assert_allclose(parts[0], full[0])
