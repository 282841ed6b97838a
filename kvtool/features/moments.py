"""Variance over images in one pass: partial sums that merge in any order, and serve an interval
too.

The variance of a block is the mean over token positions of the trace of the covariance over images,
that is of the sum over dim of Var_i x[i, token, dim], with the number of images as divisor (NumPy's
default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import UsageError
from kvtool.store import PartSlice, Run, bits_to_float32
from kvtool.types import Kind, Sample

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
        rows = values.reshape(heads, n, -1)
        sums = self.sums.reshape(heads, -1)
        buffer = np.empty((n, WIDTH))
        single = np.empty((n, WIDTH), np.float32)
        for head, start in product(range(heads), range(0, rows.shape[2], WIDTH)):
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
    difference = other_n * sums
    difference -= n * other_sums
    return float(np.vecdot(difference, difference)) / (n * other_n * (n + other_n))


def distances(groups: Sequence[Moments]) -> Array:
    """Return squared distances from the mean of all groups, summed, and their count, (head, group,
    2).

    Their ratio, each summed over the groups, is the variance over all images.
    """
    heads, tokens, dim = groups[0].sums.shape
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


def stream_groups(
    run: Run,
    kind: Kind,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, str], object] | None = None,
) -> Iterator[tuple[int, list[Moments]]]:
    """Yield (layer, groups) for each stored layer of a kind, in one pass over the stored vectors.

    The images (all, or `ids`) are cut into GROUPS of neighbors in the data set's order, one image
    each where there are fewer. Processes may take some of the ids each:
    functools.reduce(Moments.merge, ...) over all their groups is that of all images. Memory: the
    groups of one layer and two parts of the run, whatever the number of images. `progress` is
    called with 1 and a note for each part read. Raises UsageError as shared_tokens does.
    """
    selection = None if ids is None else set(ids)
    samples = [sample for sample in run.samples if selection is None or sample.id in selection]
    tokens = shared_tokens(run, kind, samples)
    count = min(GROUPS, len(samples))
    group_of = {sample.index: rank * count // len(samples) for rank, sample in enumerate(samples)}
    moments: dict[int, Moments] = {}
    previous: int | None = None
    # Parts of a layer follow each other: a new layer ends the one before.
    for layer, part in _ahead(run.stream(kind, ids=ids, raw=True)):
        if previous is not None and layer != previous:
            yield previous, list(moments.values())
            moments = {}
        previous = layer
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # what is not finite has a variance that is not defined
            for group, values in _by_group(part, tokens, group_of):
                heads, _, _, dim = values.shape
                moments.setdefault(group, Moments.zeros(heads, len(tokens), dim)).add(values)
        if progress is not None:
            progress(1, f"{kind} layer {layer}")
    if previous is not None:
        yield previous, list(moments.values())


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
    part: PartSlice, tokens: NDArray[np.int64], group_of: dict[int, int]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield values (head, image, token, dim) of the images of one part, by group."""
    heads, total, dim = part.values.shape
    if total == len(part.samples) * len(tokens):
        values = part.values.reshape(heads, len(part.samples), len(tokens), dim)
    else:
        values = part.values[:, part.offsets[:-1, None] + tokens]
    groups = [group_of[sample.index] for sample in part.samples]
    for group in dict.fromkeys(groups):
        first = groups.index(
            group
        )  # images of a part rise by index, so those of a group lie together
        yield group, values[:, first : first + groups.count(group)]


def shared_tokens(run: Run, kind: Kind, samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return the positions of the base grid among each image's tokens.

    Raises UsageError where images differ in it.

    A token position then means the same place in every image and, for keys after the rotary
    embedding, has the same rotation, so that the variance is that of the keys before it.
    """
    if len(samples) < 2:
        raise UsageError(
            f"variance: run {run.name}: expected 2 images or more, found {len(samples)}: extract "
            "more"
        )
    first = samples[0]
    for sample in samples:
        if _layout(sample, kind) != _layout(first, kind):
            raise UsageError(
                f"variance: run {run.name}: image {first.id} has {_layout(first, kind)}, image "
                f"{sample.id} {_layout(sample, kind)}: the variance over images is taken at fixed "
                "token positions: extract pictures of one size, or with a model of one base view"
            )
        if (
            kind == "key"
            and run.config.keys == "post-rope"
            and sample.image_start != first.image_start
        ):
            raise UsageError(
                f"variance: run {run.name}: image {first.id} starts at prompt position "
                f"{first.image_start}, image {sample.id} at {sample.image_start}, so their keys "
                "are "
                "rotated differently: extract with --keys pre-rope, or with prefixes of one length"
            )
    return np.array(first.base(kind).token_indices(), np.int64)


def _layout(sample: Sample, kind: Kind) -> str:
    span = sample.base(kind)
    rows, cols = span.grid
    newlines = ", with newlines" if span.row_stride != cols else ""
    return f"{rows} x {cols} tokens{newlines}" + (f" from token {span.start}" if span.start else "")
