"""Variance over images in one pass: partial sums that merge in any order, and serve an interval
too.

The variance of a block is the mean over token positions of the trace of the covariance over images,
that is of the sum over dim of Var_i x[i, token, dim], with the number of images as divisor (NumPy's
default).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kvtool.features.grids import GridLayout
from kvtool.progress import Progress
from kvtool.store import PartSlice, Run, bits_to_float32
from kvtool.types import Kind

Array = NDArray[np.float64]
T = TypeVar("T")

GROUPS = 32
"""Most groups of images whose sums are held at once: what the interval resamples, and what bounds
the memory."""
WIDTH = 8192
"""Columns worked on at once: few enough for the cache, and for BLAS not to start threads, which
wait long for each other where the machine is busy."""


@dataclass
class Moments:
    """What n images leave behind, in float64; partial results of parts, processes or runs merge.

    These are their sums (head, token, dim) and m2 (head,), the squared distances from their mean,
    summed over images, tokens and dims.
    """

    n: int
    sums: Array
    m2: Array

    @classmethod
    def zeros(cls, heads: int, tokens: int, dim: int) -> Moments:
        """Return the moments of no image."""
        return cls(0, np.zeros((heads, tokens, dim)), np.zeros(heads))

    @property
    def variance(self) -> Array:
        """The variance of each head, (head,)."""
        variance: Array = self.m2 / (self.n * self.sums.shape[1])
        return variance

    def add(self, values: NDArray[Any]) -> None:
        """Take in more images: values (head, image, token, dim), bfloat16 as uint16 bits.

        Distances are first from these images' mean; then groups combine as in merge.
        """
        heads, n = values.shape[:2]
        # Tokens and dims side by side: moments are taken column by column.
        rows = values.reshape(heads, n, -1)
        sums = self.sums.reshape(heads, -1)
        # Buffers that all pieces share: the memory is that of WIDTH columns.
        buffer = np.empty((n, WIDTH))
        single = np.empty((n, WIDTH), np.float32)
        for head, start in product(range(heads), range(0, rows.shape[2], WIDTH)):
            # A slice of the columns at a time, all images of it.
            piece = rows[head, :, start : start + WIDTH]
            piece_sums = sums[head, start : start + WIDTH]
            work = buffer[:, : piece.shape[1]]
            if piece.dtype == np.uint16:
                piece = bits_to_float32(piece, single[:, : piece.shape[1]])
            np.copyto(work, piece)
            total = work.sum(axis=0)
            # Distances from the mean of these images, in double precision.
            work -= total / n
            # And what the distance of their mean from that of earlier images adds.
            self.m2[head] += np.vecdot(work, work).sum() + _between(piece_sums, self.n, total, n)
            # A view: this adds to the sums of all images.
            piece_sums += total
        self.n += n

    def merge(self, second: Moments) -> Moments:
        """Return the moments of the images of both, which must be different ones (Chan, Golub and
        LeVeque 1983)."""
        merged = Moments(self.n + second.n, np.empty_like(self.sums), self.m2 + second.m2)
        out, ours, theirs = (
            moments.sums.reshape(len(self.m2), -1) for moments in (merged, self, second)
        )
        for head, start in product(range(len(out)), range(0, out.shape[1], WIDTH)):
            piece = (head, slice(start, start + WIDTH))
            # The squared distances within both groups stand; the distance of their means is added.
            merged.m2[head] += _between(ours[piece], self.n, theirs[piece], second.n)
            np.add(ours[piece], theirs[piece], out=out[piece])
        return merged


def _between(sums: Array, n: int, other_sums: Array, other_n: int) -> float:
    """Return what the distance of two groups' means adds to m2."""
    if not (n and other_n):
        return 0.0
    # n * other_n * (other mean - mean), without a division by each n.
    # With the means' distance, m2 grows by n other_n / (n + other_n) times its square.
    difference = other_n * sums
    difference -= n * other_sums
    return float(np.vecdot(difference, difference)) / (n * other_n * (n + other_n))


def distances(groups: Sequence[Moments]) -> Array:
    """Return squared distances from the mean of all groups, summed, and their count, (head, group,
    2).

    Their ratio, each summed over the groups, is the variance over all images.
    """
    heads, tokens, dim = groups[0].sums.shape
    # The variance is a mean over tokens: an image counts once for each of them.
    counts = np.array([group.n for group in groups], np.float64)
    flat = [group.sums.reshape(heads, tokens * dim) for group in groups]
    sums_and_counts = np.empty((heads, len(groups), 2))
    # Within the groups, and below what their means' distances from the total mean add.
    sums_and_counts[..., 0] = np.stack([group.m2 for group in groups], axis=-1)
    sums_and_counts[..., 1] = counts * tokens
    for head, start in product(range(heads), range(0, tokens * dim, WIDTH // 2)):
        work = np.stack([sums[head, start : start + WIDTH // 2] for sums in flat])
        # counts * (group mean - total mean), for a piece of the columns.
        work -= counts[:, None] * (work.sum(axis=0) / counts.sum())
        sums_and_counts[head, :, 0] += np.vecdot(work, work) / counts
    return sums_and_counts


def pooled_distances(layouts: Sequence[Sequence[Moments]]) -> Array:
    """Return the distances of groups within each of several layouts, (head, group, 2).

    Images of one layout are compared with their own mean alone. Where there are several, each
    mean takes one image's worth of its layout's distances away, so that the divisor is the number
    of images less one, or layouts of few images would count as too constant.
    """
    pieces = []
    for groups in layouts:
        sums_and_counts = distances(groups)
        # One layout keeps NumPy's divisor, the number of images.
        if len(layouts) > 1:
            n = sum(group.n for group in groups)
            sums_and_counts[..., 1] *= (n - 1) / n
        pieces.append(sums_and_counts)
    return np.concatenate(pieces, axis=1)


def stream_groups(
    run: Run,
    kind: Kind,
    layouts: Sequence[GridLayout],
    ids: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, list[list[Moments]]]]:
    """Yield (layer, groups of each layout) for each stored layer of a kind, in one pass over the
    stored vectors.

    The images of a layout (all, or `ids`) are cut into groups of neighbors in the data set's order,
    one image each where there are few: GROUPS for all layouts together, and one more for each of
    them at most. Processes may take some of the ids each: functools.reduce(Moments.merge, ...) over
    all their groups of a layout is that of all its images. Memory: the groups of one layer and two
    parts of the run, whatever the number of images. `progress` is called with 1 and a note for each
    part read.
    """
    group_of = _groups(layouts, None if ids is None else set(ids))
    image_ids = [image for image in run.ids if image in group_of]
    moments: dict[tuple[int, int], Moments] = {}
    previous: int | None = None
    # Parts of a layer follow each other: a new layer ends the one before.
    for layer, part in _ahead(run.stream(kind, ids=image_ids, raw=True)):
        if previous is not None and layer != previous:
            yield previous, _by_layout(moments, len(layouts))
            moments = {}
        previous = layer
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # what is not finite has a variance that is not defined
            for group, values in _by_group(part, layouts, group_of):
                heads, _, tokens, dim = values.shape
                moments.setdefault(group, Moments.zeros(heads, tokens, dim)).add(values)
        if progress is not None:
            progress(1, f"{kind} layer {layer}")
    if previous is not None:
        yield previous, _by_layout(moments, len(layouts))


def _groups(
    layouts: Sequence[GridLayout], selection: set[str] | None
) -> dict[str, tuple[int, int]]:
    """Return the (layout, group) of each image: GROUPS are shared out by the images of layouts."""
    members = [
        [sample.id for sample in layout.samples if selection is None or sample.id in selection]
        for layout in layouts
    ]
    # Each layout's part of GROUPS is by its images, at least one and at most one an image.
    total = sum(map(len, members))
    group_of = {}
    for number, images in enumerate(members):
        n_groups = min(len(images), max(1, round(GROUPS * len(images) / total))) if images else 0
        for rank, image in enumerate(images):
            # Neighbors in rank share a group; sizes differ by one at most.
            group_of[image] = number, rank * n_groups // len(images)
    return group_of


def _by_layout(moments: dict[tuple[int, int], Moments], n_layouts: int) -> list[list[Moments]]:
    """Return the groups of each layout, in the order in which they were met."""
    return [
        [group for (number, _), group in moments.items() if number == layout]
        for layout in range(n_layouts)
    ]


def count_reads(run: Run, kind: Kind) -> int:
    """Return how often stream_groups calls progress: once for each part of a layer."""
    layers = run.config.stored_layers(kind) if kind in run.config.kinds else ()
    return len(run.parts()) * len(layers)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items; while one is in use, another thread fetches the next."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def _by_group(
    part: PartSlice, layouts: Sequence[GridLayout], group_of: dict[str, tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], NDArray[Any]]]:
    """Yield values (head, image, token, dim) of the images of one part, by group."""
    # Images of one group within the part, in the order in which they are stored.
    groups = [group_of[sample.id] for sample in part.samples]
    for group in dict.fromkeys(groups):
        positions = [position for position, key in enumerate(groups) if key == group]
        yield group, _vectors(part, positions, layouts[group[0]].tokens)


def _vectors(part: PartSlice, positions: Sequence[int], tokens: NDArray[np.int64]) -> NDArray[Any]:
    """Return the vectors (head, image, token, dim) of some images of one layout."""
    heads, _, dim = part.values.shape
    start, stop = int(part.offsets[positions[0]]), int(part.offsets[positions[-1] + 1])
    # Images that lie together, and have no tokens beside the grid's, are read without a copy.
    is_dense = positions[-1] - positions[0] == len(positions) - 1
    if is_dense and stop - start == len(positions) * len(tokens):
        return part.values[:, start:stop].reshape(heads, len(positions), len(tokens), dim)
    return part.values[:, part.offsets[np.array(positions), None] + tokens]
