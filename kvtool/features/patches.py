"""The patches of one block of a run, numbered over all images and streamed, and the best of
them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kvtool.store import Run
from kvtool.types import Block, GridSpan, Sample

if TYPE_CHECKING:
    import torch

    from kvtool.features.neighbors import Metric

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]
Chunk = tuple[Numbers, Array]
"""Patches: their numbers, rising, and their vectors (patch, dim)."""

READ_BYTES = 2**24
"""Most float32 bytes of one read, unless a single image has more."""


@dataclass(frozen=True)
class Patches:
    """The base grids of all images of a run in one block; newline and tile tokens are no patches.

    A patch's number counts cells row by row through the images by dataset index, so it rises with
    (image index, token). For "cosine" vectors have unit length. Patches whose vector is not finite
    have a number but are never handed out.
    """

    run: Run
    block: Block
    metric: Metric

    @cached_property
    def samples(self) -> list[Sample]:
        """The run's samples by dataset index."""
        return self.run.samples

    @cached_property
    def starts(self) -> Numbers:
        """The number of each image's first patch, and the count of all patches, (image + 1,)."""
        # Cells of each image, added up: where its numbers begin.
        grids = [self.span(sample).grid for sample in self.samples]
        cells = [rows * cols for rows, cols in grids]
        return np.concatenate([[0], np.cumsum(cells, dtype=np.int64)]).astype(np.int64)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self.run.config.heads_and_dim(self.block.kind)[1]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def span(self, sample: Sample) -> GridSpan:
        """Return the base grid of an image among its stored tokens."""
        return sample.base(self.block.kind)

    def image_range(self, position: int) -> tuple[int, int]:
        """Return the first and last + 1 number of the image at a position among `samples`."""
        return int(self.starts[position]), int(self.starts[position + 1])

    def place(self, number: int) -> tuple[Sample, int, int]:
        """Return (sample, row, col) of a patch."""
        # The last image that begins at or before the number.
        position = int(np.searchsorted(self.starts, number, side="right")) - 1
        sample = self.samples[position]
        row, col = divmod(number - int(self.starts[position]), self.span(sample).grid[1])
        return sample, row, col

    def chunks(self) -> Iterator[Chunk]:
        """Yield all patches by rising number; a chunk is what one read of READ_BYTES holds."""
        return self._read(range(len(self.samples)))

    def gather(self, selection: Numbers) -> Chunk:
        """Return some patches, named by rising number; only the images that hold them are read."""
        # The images that hold a patch asked for, each once.
        positions = np.unique(np.searchsorted(self.starts, selection, side="right") - 1)
        # An empty chunk first, so that there is something to join where no image holds any.
        chunks: list[Chunk] = [(np.empty(0, np.int64), np.empty((0, self.dim), np.float32))]
        for numbers, vectors in self._read(positions.tolist()):
            selected = np.isin(numbers, selection, assume_unique=True)
            chunks.append((numbers[selected], vectors[selected]))
        return np.concatenate([chunk[0] for chunk in chunks]), np.concatenate(
            [chunk[1] for chunk in chunks]
        )

    def _read(self, positions: Iterable[int]) -> Iterator[Chunk]:
        for group in self._groups(positions):
            samples = [self.samples[position] for position in group]
            values, images = self.run.read(
                self.block.kind,
                self.block.layer,
                self.block.kv_head,
                [sample.id for sample in samples],
            )
            # A sample's tokens start at its offset in the values read; only base grid tokens are
            # patches.
            rows = [image.start + _tokens(self.span(image.sample)) for image in images]
            numbers = [np.arange(*self.image_range(position)) for position in group]
            yield self._usable(np.concatenate(numbers), values[np.concatenate(rows)])

    def _groups(self, positions: Iterable[int]) -> Iterator[list[int]]:
        """Yield positions of consecutive images whose patches fit one read."""
        # In patches, of float32 vectors: a read holds so many, or a single larger image.
        limit = max(1, READ_BYTES // (4 * self.dim))
        group = list[int]()
        size = 0
        for position in positions:
            start, stop = self.image_range(position)
            if group and size + stop - start > limit:
                yield group
                group = []
                size = 0
            group.append(position)
            size += stop - start
        if group:
            yield group

    def _usable(self, numbers: Numbers, vectors: Array) -> Chunk:
        """Leave out vectors that are not finite, and normalize the others for cosine."""
        # A patch keeps its number where it is left out, so others are not renumbered.
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            numbers = numbers[finite]
            vectors = vectors[finite]
        if self.metric == "cosine":
            import torch

            vectors = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=-1).numpy()
        return numbers, vectors


class Best:
    """The k best patches of each query, over chunks that come in any order; ties go to the lowest
    number.

    Scores are as in neighbors.nearest. Each chunk's best join those so far, and the reference ranks
    them in double precision: the answer is the same however the patches are cut into chunks.
    Memory: (query, 2 k, dim) and a chunk. Patches numbered from leave_out[0] to leave_out[1] - 1
    are passed over.
    """

    def __init__(
        self,
        queries: Array,
        k: int,
        metric: Metric,
        device: torch.device,
        leave_out: tuple[int, int] = (0, 0),
    ) -> None:
        import torch

        self.queries = queries
        self.k = k
        self.metric = metric
        self.device = device
        self.leave_out = leave_out
        self._on_device = torch.from_numpy(queries).to(device)[None]
        self.clear()

    def clear(self) -> None:
        """Forget the patches seen."""
        count, dim = self.queries.shape
        self.scores: Array = np.empty((count, 0), np.float32)
        self.numbers: Numbers = np.empty((count, 0), np.int64)
        self._vectors: Array = np.empty((count, 0, dim), np.float32)

    def add(self, numbers: Numbers, vectors: Array) -> None:
        """Take in patches by rising number."""
        import torch

        from kvtool.features.neighbors import nearest

        # Numbers rise, so that the patches to leave out are one slice.
        start, stop = np.searchsorted(numbers, self.leave_out).tolist()
        if start < stop:
            numbers = np.delete(numbers, slice(start, stop))
            vectors = np.delete(vectors, slice(start, stop), axis=0)
        if not (self.k and len(numbers) and len(self.queries)):
            return
        # The chunk's candidates, on the device.
        targets = torch.from_numpy(vectors).to(self.device)[None]
        _, nearby = nearest(self._on_device, targets, min(self.k, len(numbers)), metric=self.metric)
        # Candidates so far and new ones, by rising number, so that the reference's ties go to the
        # lowest.
        pool = np.concatenate([self.numbers, numbers[nearby[0]]], axis=1)
        pool_vectors = np.concatenate([self._vectors, vectors[nearby[0]]], axis=1)
        order = np.argsort(pool, axis=1, kind="stable")
        pool = np.take_along_axis(pool, order, axis=1)
        pool_vectors = np.take_along_axis(pool_vectors, order[..., None], axis=1)
        # The reference decides in double precision.
        keep = min(self.k, pool.shape[1])
        scores, best = nearest(
            self.queries[:, None], pool_vectors, keep, metric=self.metric, backend="numpy"
        )
        self.scores = scores[:, 0]
        best = best[:, 0]
        self.numbers = np.take_along_axis(pool, best, axis=1)
        self._vectors = np.take_along_axis(pool_vectors, best[..., None], axis=1)


def sample_numbers(total: int, count: int, seed: int) -> Numbers:
    """Draw `count` different numbers below `total` (all, where there are fewer), rising."""
    numbers: Any = np.random.default_rng(seed).choice(
        total, min(count, total), replace=False, shuffle=False
    )
    return np.sort(numbers).astype(np.int64)


def _tokens(span: GridSpan) -> Numbers:
    """Return span.token_indices() as an array."""
    rows, cols = span.grid
    return (
        (span.start + np.arange(rows)[:, None] * span.row_stride + np.arange(cols))
        .reshape(-1)
        .astype(np.int64)
    )
