"""Exact nearest neighbors, cosine and L2, batched over heads: FAISS on GPU or CPU, torch, and the
NumPy reference.

All backends give the same answers. Single precision cannot tell near-ties apart, and each library
breaks ties differently; so wherever two of a query's k + 1 best scores lie within rounding error of
each other, that query is decided by the reference: double precision, and the lowest index where
scores agree to 10 digits.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache, partial
from typing import Any, Literal, get_args

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.features.products import exact_products, greatest, inverse_norms
from kvtool.types import Backend

Array = np.ndarray[Any, Any]
Metric = Literal["cosine", "l2"]

MARGIN = 2e-5
"""Bound on the single-precision error of a score, relative to the scale of its vectors."""

FAISS_CPU_FROM = 2**24
"""Query-target pairs per head from which FAISS beats torch on a CPU: it never builds the matrix of
scores."""

CHUNK = 2**26
"""Most scores (queries x targets x heads) the torch path holds at once: 256 MiB."""


def nearest(
    queries: torch.Tensor | Array,
    targets: torch.Tensor | Array,
    k: int = 1,
    *,
    metric: Metric = "cosine",
    backend: Backend = "auto",
) -> tuple[Array, Array]:
    """Return the k best targets of every query, per head.

    Returns scores (head, query, k) float32, best first: cosine similarity, or the negated squared
    distance for "l2"; and indices (head, query, k) int64. Ties go to the lowest index. A zero
    vector has cosine 0 with everything. Raises UsageError.

    Args:
        queries: (head, query, dim), computed in float32 (faster for bfloat16, see exact_products).
        targets: (head, target, dim), on the device of the queries.
        k: the number of targets.
        metric: "cosine" or "l2".
        backend: "auto", or the backend to use.
    """
    q = torch.as_tensor(queries)
    t = torch.as_tensor(targets)
    # Noted before the cast, which hides it: such factors lose nothing in bfloat16 units.
    is_bfloat16 = q.dtype == t.dtype == torch.bfloat16
    q = q.float()
    t = t.float()
    _check(q, t, k, metric)
    name = choose(backend, q.shape[1] * t.shape[1], q.is_cuda)
    # One target more than asked for, so that a tie at the last place shows.
    fetch = min(k + 1, t.shape[1])
    if name == "numpy" or not q.numel():
        return _reference(_array(_comparable(q, metric)), _array(_comparable(t, metric)), k, metric)
    if name == "torch":
        with exact_products(is_bfloat16):
            scores, indices = _torch(q, t, fetch, metric)
    else:
        if name == "faiss-gpu":
            q, t = q.cuda(), t.cuda()
        scores, indices = _faiss(_comparable(q, metric), _comparable(t, metric), fetch, metric)
    return _settle_ties(q, t, scores, indices, k, metric)


def _check(q: torch.Tensor, t: torch.Tensor, k: int, metric: Metric) -> None:
    """Check shapes and options. Raises UsageError, and ValueError for shapes."""
    if metric not in get_args(Metric):
        raise UsageError(f"neighbors: metric is {' or '.join(get_args(Metric))}, not {metric!r}")
    if q.ndim != 3 or t.ndim != 3 or q.shape[::2] != t.shape[::2]:
        raise ValueError(
            f"expected (head, query, dim) and (head, target, dim), found {q.shape} and {t.shape}"
        )
    if not 1 <= k <= t.shape[1]:
        raise UsageError(f"neighbors: k is 1 to the number of targets ({t.shape[1]}), not {k}")


def choose(backend: Backend, pairs: int, on_gpu: bool) -> str:
    """Return the backend to use: the one forced by name, else the fastest.

    That is FAISS on a GPU, or on a CPU the faster one for this many pairs a head. Raises UsageError
    for a backend that is unknown or cannot run here.
    """
    have = available()
    if backend == "auto":
        if on_gpu:
            return "faiss-gpu" if have["faiss-gpu"] else "torch"
        # Torch is faster for few pairs, FAISS for many, as it never builds the matrix of scores.
        return "faiss-cpu" if have["faiss-cpu"] and pairs >= FAISS_CPU_FROM else "torch"
    # Forced by name: it runs or fails, and is never replaced by another in silence.
    if backend not in have:
        raise UsageError(f"neighbors: unknown backend {backend!r}; known: auto, {', '.join(have)}")
    if not have[backend]:
        extra = "gpu" if backend == "faiss-gpu" else "cpu"
        needs = " and a CUDA device" if backend == "faiss-gpu" else ""
        raise UsageError(
            f"neighbors: backend {backend} needs {backend}{needs}; install kvtool[{extra}] or "
            "take --backend auto"
        )
    return backend


@cache
def available() -> dict[str, bool]:
    """Tell which backends can run here."""
    try:
        import faiss
    except ImportError:
        return {"faiss-gpu": False, "faiss-cpu": False, "torch": True, "numpy": True}
    gpu = torch.cuda.is_available() and hasattr(faiss, "knn_gpu") and faiss.get_num_gpus() > 0
    return {"faiss-gpu": gpu, "faiss-cpu": True, "torch": True, "numpy": True}


def _comparable(x: torch.Tensor, metric: Metric) -> torch.Tensor:
    """Return vectors of unit length for cosine, as they are for l2."""
    return torch.nn.functional.normalize(x, dim=-1) if metric == "cosine" else x


def _torch(q: torch.Tensor, t: torch.Tensor, k: int, metric: Metric) -> tuple[Array, Array]:
    # As many queries at once as CHUNK scores allow.
    rows = max(1, CHUNK // (q.shape[0] * t.shape[1]))
    norms = inverse_norms(t) if metric == "cosine" else (t * t).sum(-1)
    parts = [
        _torch_chunk(part, t, norms[:, None], k, metric) for part in torch.split(q, rows, dim=1)
    ]
    scores, indices = (torch.cat(pieces, dim=1) for pieces in zip(*parts, strict=True))
    return _array(scores), _array(indices)


def _torch_chunk(
    q: torch.Tensor, t: torch.Tensor, norms: torch.Tensor, k: int, metric: Metric
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best of some queries. norms (head, 1, target) are inverse norms of the targets for
    cosine, their squared norms for l2."""
    # Raw products; norms are applied to them, not to copies of the vectors.
    scores = torch.bmm(q, t.transpose(1, 2))
    if metric == "cosine":
        values, indices = greatest(scores.mul_(norms), k)
        # A query's norm is the same for all its targets, so it can come after the choice.
        return values * inverse_norms(q)[:, :, None], indices
    # -|q - t|^2 = 2 q.t - |t|^2 - |q|^2: the greatest is the nearest.
    return greatest(2 * scores - norms - (q * q).sum(-1)[:, :, None], k)


def _faiss(q: torch.Tensor, t: torch.Tensor, k: int, metric: Metric) -> tuple[Array, Array]:
    """Search with FAISS on the tensors' device, a call a head: FAISS knows one set of targets a
    call. Nothing passes through the host but the answers of all heads.
    """
    import faiss
    import faiss.contrib.torch_utils  # FAISS takes tensors from then on, where they lie

    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    search = partial(faiss.knn_gpu, _gpu(), device=q.device.index) if q.is_cuda else faiss.knn
    # FAISS follows the current device's stream.
    with torch.cuda.device(q.device) if q.is_cuda else nullcontext():
        pairs = zip(q.contiguous(), t.contiguous(), strict=True)
        results = [search(queries, targets, k, metric=kind) for queries, targets in pairs]
    scores, indices = (_array(torch.stack(tensors)) for tensors in zip(*results, strict=True))
    # FAISS gives squared distances, smallest first; negated, the best is the greatest.
    return (scores if metric == "cosine" else -scores), indices


@cache
def _gpu() -> Any:
    import faiss

    return faiss.StandardGpuResources()


def _settle_ties(
    q: torch.Tensor, t: torch.Tensor, scores: Array, indices: Array, k: int, metric: Metric
) -> tuple[Array, Array]:
    """Hand every query whose best scores are too close to call, or not finite, to the reference."""
    scale = np.ones(scores.shape[:2])
    if metric == "l2":
        scale = _array((q * q).sum(-1) + (t * t).sum(-1).amax(-1, keepdim=True))
    # Scores are clear where all gaps exceed the rounding error at the scale of the vectors.
    gaps = scores[..., :-1] - scores[..., 1:]
    clear: Array = np.all(gaps > MARGIN * scale[..., None], axis=-1) & np.all(
        np.isfinite(scores), axis=-1
    )
    scores = np.ascontiguousarray(scores[..., :k])
    indices = np.ascontiguousarray(indices[..., :k])
    # Only the unclear queries of each head are searched again.
    for head in np.flatnonzero(~clear.all(axis=-1)):
        rows = np.flatnonzero(~clear[head])
        unclear = _comparable(q[head, torch.as_tensor(rows, device=q.device)], metric)
        head_targets = _comparable(t[head], metric)
        scores[head, rows], indices[head, rows] = (
            _reference_on_device(unclear, head_targets, k, metric)
            if q.is_cuda
            else _reference_head(
                _array(unclear).astype(np.float64),
                _array(head_targets).astype(np.float64),
                k,
                metric,
            )
        )
    return scores.astype(np.float32, copy=False), indices.astype(np.int64, copy=False)


def _reference(q: Array, t: Array, k: int, metric: Metric) -> tuple[Array, Array]:
    """Search by brute force in double precision, sorted by (score, index).

    Scores equal to 10 digits are ties.
    """
    q64 = q.astype(np.float64)
    t64 = t.astype(np.float64)
    results = [_reference_head(a, b, k, metric) for a, b in zip(q64, t64, strict=True)]
    scores, indices = (np.stack(arrays) for arrays in zip(*results, strict=True))
    return scores.astype(np.float32), indices


def _reference_head(q: Array, t: Array, k: int, metric: Metric) -> tuple[Array, Array]:
    scores = np.empty((len(q), k))
    indices = np.empty((len(q), k), np.int64)
    # Double precision, and its copies: a quarter of CHUNK scores at once.
    rows = max(1, CHUNK // (4 * len(t)))
    for first in range(0, len(q), rows):
        part = slice(first, first + rows)
        # Double precision products; for l2 -|q - t|^2 = 2 q.t - |q|^2 - |t|^2.
        exact = q[part] @ t.T
        scale = np.ones((len(exact), 1))
        if metric == "l2":
            norms_q = (q[part] ** 2).sum(-1)[:, None]
            norms_t = (t**2).sum(-1)[None]
            exact = 2 * exact - norms_q - norms_t
            # A target that is not finite takes no part in what rounds the others.
            largest = norms_t.max(initial=0.0, where=np.isfinite(norms_t))
            scale = np.maximum(norms_q + largest, 1e-300)
        # Not a number is never best.
        exact = np.where(np.isnan(exact), -np.inf, exact)
        # A stable sort of rounded scores leaves ties in the order of their indices.
        order = np.argsort(-np.round(exact / scale, 10), axis=-1, kind="stable")[:, :k]
        indices[part] = order
        scores[part] = np.take_along_axis(exact, order, axis=-1)
    return scores, indices


def _reference_on_device(
    q: torch.Tensor, t: torch.Tensor, k: int, metric: Metric
) -> tuple[Array, Array]:
    """Search as _reference_head does, where the tensors lie: targets stay there."""
    t = t.double()
    # As there: a target that is not finite takes no part in what rounds the others.
    norms_t = t.square().sum(-1)
    largest = torch.where(norms_t.isfinite(), norms_t, 0.0).max()
    orders, scores = [], []
    for part in torch.split(q.double(), max(1, CHUNK // (4 * len(t)))):
        exact = part @ t.T
        scale = torch.ones_like(exact[:, :1])
        if metric == "l2":
            norms_q = part.square().sum(-1, keepdim=True)
            exact = 2 * exact - norms_q - norms_t
            scale = (norms_q + largest).clamp_min(1e-300)
        exact = torch.where(exact.isnan(), -torch.inf, exact)
        # Ties at 10 digits stay in the order of their indices, as the sort is stable.
        rounded = torch.round(exact / scale, decimals=10)
        orders.append(rounded.sort(dim=-1, descending=True, stable=True).indices[:, :k])
        scores.append(exact.gather(1, orders[-1]))
    return _array(torch.cat(scores)), _array(torch.cat(orders))


def _array(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
