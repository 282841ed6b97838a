"""The nearest patches of a whole run for the one under the pointer.

A block's patches are held in memory as FAISS's flat index, which is exact, so that each query after
the first takes milliseconds. A block beyond MOST_BYTES is searched by the index that `kvtool
search` keeps in the store. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from kvtool.errors import KvtoolError, UsageError
from kvtool.features.patch_index import faiss_module, open_index
from kvtool.features.patches import Best, Chunk, Numbers, Patches
from kvtool.tasks.blocks import torch_device
from kvtool.types import VIDEO, Block
from kvtool.viewer.replies import ViewRequest
from kvtool.viewer.vectors import kind_of
from kvtool.viewer.viewed_run import ViewedRun

MOST_BYTES = 2**31
"""What the patches of one block may take in memory."""
SEARCH_THREADS = 4
"""So many threads search at most; more of them wait for the same memory."""
MOST_PATCHES = 200
"""So many patches are asked for at most."""


@dataclass
class HeldPatches:
    """The patches of a block in memory: unit vectors in a flat index of inner products.

    Attributes:
        patches: The patches.
        numbers: The number of each that is finite.
        index: FAISS's index, or the vectors (patch, dim) themselves where FAISS is not installed.
    """

    patches: Patches
    numbers: Numbers
    index: Any

    @classmethod
    def read(cls, patches: Patches) -> HeldPatches:
        """Read all patches of a block."""
        chunks = list(patches.chunks())
        numbers = np.concatenate([np.empty(0, np.int64), *(chunk[0] for chunk in chunks)])
        empty = np.empty((0, patches.dim), np.float32)
        faiss = faiss_module()
        if faiss is None:
            return cls(patches, numbers, np.concatenate([empty, *(chunk[1] for chunk in chunks)]))
        return cls(patches, numbers, _flat_index(faiss, patches.dim, chunks))

    def nearest(self, vector: Any, k: int) -> list[tuple[int, float]]:
        """Return the k nearest patches of a unit vector (1, dim): (number, cosine), best first."""
        k = min(k, len(self.numbers))
        if isinstance(self.index, np.ndarray):
            scores = (self.index @ vector[0])[None]
            rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores = np.take_along_axis(scores, rows, axis=1)
        else:
            scores, rows = self.index.search(vector, k)
        return list(zip(self.numbers[rows[0]].tolist(), scores[0].tolist(), strict=True))


def _flat_index(faiss: Any, dim: int, chunks: Sequence[Chunk]) -> Any:
    """Return FAISS's flat index of inner products over the vectors of all chunks.

    FAISS takes one query with one thread, so that there is an index for each thread: all of them
    are searched at once, and number their vectors one after the other.
    """
    indexes = faiss.IndexShards(dim, True, True)
    n_shards = max(1, min(SEARCH_THREADS, len(chunks)))
    for shard in range(n_shards):
        index = faiss.IndexFlatIP(dim)
        # Shares of chunks in their order: numbers across shards go on as those of the run do.
        first, last = (len(chunks) * bound // n_shards for bound in (shard, shard + 1))
        for _, vectors in chunks[first:last]:
            index.add(vectors)
        indexes.add_shard(index)
    return indexes


class NearestPatches:
    """Searches blocks of viewed runs; the patches of the last block stay in memory."""

    def __init__(self) -> None:
        self._held: HeldPatches | None = None
        self._lock = Lock()

    def record(self, viewed: ViewedRun, request: ViewRequest) -> dict[str, Any]:
        """Return the `k` patches nearest to a token's, those of its own image left out."""
        kind, layer = kind_of(request), request.number("layer")
        block = Block(kind, layer, request.number("kv_head"))
        sample = viewed.sample(request.text("image"))
        if viewed.run.config.view == VIDEO:
            raise UsageError("nearest patches: expected a run over pictures, found one over videos")
        k = min(request.number("k", 48), MOST_PATCHES)
        # One search at a time: the vectors of a block fill the memory.
        with self._lock, viewed.lock:
            patches = self._patches_of(viewed, block)
            position = patches.samples.index(sample)
            number = _patch_number(patches, position, request.number("token"))
            _, vector = patches.gather(np.array([number]))
            if not len(vector):
                return {"rows": [], "note": "this patch's vector is not finite"}
            best = self._search(patches, vector, k, patches.image_range(position))
        return {"rows": [_row(viewed, patches, number, score) for number, score in best]}

    def _patches_of(self, viewed: ViewedRun, block: Block) -> Patches:
        """Return the patches of a block: those of the last query, if they are the same."""
        if self._held is not None:
            patches = self._held.patches
            if (patches.run, patches.block) == (viewed.run, block) and len(patches.samples) == len(
                viewed.samples
            ):
                return patches
        return Patches(viewed.run, block, "cosine")

    def _search(
        self, patches: Patches, vector: Any, k: int, image_range: tuple[int, int]
    ) -> list[tuple[int, float]]:
        """Return (number, cosine) of the nearest patches of other images."""
        # Vectors that do not fit into memory are searched by the index that the store keeps.
        if 4 * patches.dim * len(patches) > MOST_BYTES:
            return _by_stored_index(patches, vector, k, image_range)
        if self._held is None or self._held.patches is not patches:
            self._held = None  # the memory of the last block is free before the next is read
            self._held = HeldPatches.read(patches)
        # So many more as the image itself may take of the first places.
        start, stop = image_range
        candidates = self._held.nearest(vector, k + stop - start)
        return [pair for pair in candidates if not start <= pair[0] < stop][:k]


def _by_stored_index(
    patches: Patches, vector: Any, k: int, image_range: tuple[int, int]
) -> list[tuple[int, float]]:
    """Return the nearest patches by the index in the store. Raises KvtoolError without one."""
    index = open_index(patches)
    if index is None:
        raise KvtoolError(
            f"nearest patches: {len(patches)} patches are more than memory is taken for: run "
            "kvtool search on this block once, whose index then serves"
        )
    best = Best(vector, k, "cosine", torch_device("cpu"), image_range)
    index.search_into(best)
    return list(zip(best.numbers[0].tolist(), best.scores[0].tolist(), strict=True))


def _patch_number(patches: Patches, position: int, token: int) -> int:
    """Return the number of the patch of an image's token. Raises UsageError for one of no patch."""
    sample = patches.samples[position]
    span = patches.span(sample)
    row, col = divmod(token - span.start, span.row_stride)
    if not (0 <= row < span.grid[0] and col < span.grid[1]):
        raise UsageError(f"token: expected one of the base grid of {sample.id}, found {token}")
    return patches.image_range(position)[0] + row * span.grid[1] + col


def _row(viewed: ViewedRun, patches: Patches, number: int, score: float) -> dict[str, Any]:
    """Return where a patch lies."""
    sample, row, col = patches.place(number)
    span = patches.span(sample)
    x0, y0, x1, y1 = span.cover_xyxy_px
    return {
        "image": sample.id,
        "version": viewed.version(sample),
        "wh_px": sample.image_wh_px,
        "row": row,
        "col": col,
        "token": span.start + row * span.row_stride + col,
        "center_px": span.centre_px(row, col),
        "patch_px": [(x1 - x0) / span.grid[1], (y1 - y0) / span.grid[0]],
        "score": score,
    }
