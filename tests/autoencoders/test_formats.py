"""Every format: files of its layout are read as their library reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import kvtool
from tests.support.sae.weights import D, M, Written
from tests.support.sae.writers import WRITERS

Writer = Callable[[Path], Written]
X = np.random.default_rng(7).standard_normal((9, D)).astype(np.float32)
NAMES = [writer.__name__ for writer, *_ in WRITERS]


@pytest.mark.parametrize(("writer", "name", "layer", "hook"), WRITERS, ids=NAMES)
def test_what_its_library_computes(
    tmp_path: Path, writer: Writer, name: str, layer: int | None, hook: str
) -> None:
    stored = writer(tmp_path)
    sae = kvtool.load_sae(stored.path)
    assert (sae.format, sae.layer, sae.hook, sae.d, sae.m) == (name, layer, hook, D, M)
    features = np.stack([stored.features(x) for x in X])
    reconstructions = np.stack([stored.reconstruction(x) for x in X])
    np.testing.assert_allclose(sae.encode(X), features, atol=2e-5)
    np.testing.assert_allclose(sae.reconstruct(X), reconstructions, atol=5e-5)
    np.testing.assert_allclose(sae.decode(sae.encode(X), X), reconstructions, atol=5e-5)
    # Some features fire and some do not, or the test would tell nothing.
    assert 0 < np.count_nonzero(features) < features.size


@pytest.mark.parametrize("writer", [writer for writer, *_ in WRITERS], ids=NAMES)
def test_the_folder_says_the_same_as_the_file(tmp_path: Path, writer: Writer) -> None:
    stored = writer(tmp_path)
    from_file = kvtool.load_sae(stored.path).encode(X)
    assert np.array_equal(kvtool.load_sae(tmp_path).encode(X), from_file)


@pytest.mark.parametrize("writer", [writer for writer, *_ in WRITERS], ids=NAMES)
def test_tensors_in_tensors_out(tmp_path: Path, writer: Writer) -> None:
    sae = kvtool.load_sae(writer(tmp_path).path)
    features = sae.encode(torch.from_numpy(X).double())
    assert isinstance(features, torch.Tensor)
    assert features.dtype == torch.float32
    assert len(repr(sae).splitlines()) <= 10
