"""Matrix products of stored vectors without loss, and the greatest of their scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

SMALL_K = 8
"""Up to this many, a CPU finds the best by so many searches for the greatest, sooner than by
sorting."""


@contextmanager
def exact_products(is_bfloat16: bool) -> Iterator[None]:
    """Let matrix products of float32 tensors use a processor's bfloat16 units (TF32 units on a
    GPU).

    They do where `is_bfloat16` says that every factor is a bfloat16 number: nothing is lost, as a
    product of two such is exact in float32 and sums stay in float32. Other factors would be
    rounded. Torch before 2.9 goes on as ever.
    """
    # Of float32 inputs TF32 keeps 10 bits of mantissa, and bfloat16 numbers have 7.
    faster: list[tuple[Any, str]] = [(torch.backends.cuda, "tf32")]
    if _has_bfloat16_units():
        faster.append((torch.backends.mkldnn, "bf16"))
    settable = [
        (backend.matmul, name)
        for backend, name in faster
        if hasattr(getattr(backend, "matmul", 0), "fp32_precision")
    ]
    # Torch's settings are global: they are restored even where the products fail.
    before = [products.fp32_precision for products, _ in settable]
    try:
        for products, name in settable if is_bfloat16 else []:
            products.fp32_precision = name
        yield
    finally:
        for (products, _), name in zip(settable, before, strict=True):
            products.fp32_precision = name


@cache
def _has_bfloat16_units() -> bool:
    """Tell whether the processor multiplies bfloat16; without, torch would imitate it, slower than
    float32."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(value for name, value in capabilities.items() if name.endswith("bf16"))


def inverse_norms(x: torch.Tensor) -> torch.Tensor:
    """Return the factors (...) that turn vectors (..., dim) into unit vectors.

    A zero vector stays zero.
    """
    norms: torch.Tensor = torch.linalg.vector_norm(x, dim=-1)
    return norms.clamp_min(1e-12).reciprocal()


def greatest(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k greatest of the last dimension, best first, and their indices, as torch.topk;
    may overwrite `scores`."""
    if scores.is_cuda or k > SMALL_K:
        best = torch.topk(scores, k, dim=-1)
        return best.values, best.indices
    # A row for each query, without a copy where the scores lie in one piece.
    remaining = scores.flatten(0, -2).numpy()
    values = np.empty((len(remaining), k), remaining.dtype)
    indices = np.empty((len(remaining), k), np.int64)
    rows = np.arange(len(remaining))
    # Take the greatest k times, each time striking it out.
    for rank in range(k):
        indices[:, rank] = remaining.argmax(-1)
        values[:, rank] = remaining[rows, indices[:, rank]]
        remaining[rows, indices[:, rank]] = -np.inf
    shape = (*scores.shape[:-1], k)
    return torch.from_numpy(values).reshape(shape), torch.from_numpy(indices).reshape(shape)
