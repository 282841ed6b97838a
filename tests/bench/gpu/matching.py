"""FAISS on the GPU against torch's product and top-k, from few pairs to many; the figures that
`--backend auto` goes by.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.features.neighbors import available, nearest
from kvtool.types import Backend
from tests.bench.gpu.machine import Bench
from tests.bench.rows import Row, row

SIZES = ((4, 40, 729), (4, 1000, 729), (4, 4096, 8192), (1, 8192, 262144))
"""Heads, queries, targets: a pair of SPair, a category's keypoints, many pictures, an index."""
DRY_SIZES = ((2, 5, 9), (1, 6, 20))
DIM = 128


def faiss(bench: Bench) -> list[Row]:
    """FAISS's rate over torch's, and the share of equal answers. Raises UsageError without
    FAISS.
    """
    backend: Backend = "faiss-gpu" if bench.device.type == "cuda" else "faiss-cpu"
    if not available()[backend]:
        raise UsageError(f"{backend} cannot be imported here")
    sizes = DRY_SIZES if bench.is_dry else SIZES
    return list(chain.from_iterable(_compared(bench, backend, *size) for size in sizes))


def _compared(
    bench: Bench, backend: Backend, heads: int, n_queries: int, n_targets: int
) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    queries, targets = (
        torch.randn(heads, n, DIM, generator=generator).bfloat16().to(bench.device)
        for n in (n_queries, n_targets)
    )

    def ours() -> np.ndarray:
        """Return the two nearest targets' indices as FAISS finds them."""
        return nearest(queries, targets, 2, backend=backend)[1]

    def peer() -> np.ndarray:
        """Return those that torch finds."""
        return nearest(queries, targets, 2, backend="torch")[1]

    pairs = heads * n_queries * n_targets / 1e6
    rates = pairs / bench.seconds(ours), pairs / bench.seconds(peer)
    n_equal = float((ours() == peer()).mean())
    shape = f"{heads} x {n_queries} x {n_targets}"
    return [
        row(f"{backend} / torch, {shape}", "Mpairs/s", *rates, 1.0),
        row(f"{backend} equal to torch, {shape}", "share", n_equal, 1, 1.0),
    ]
