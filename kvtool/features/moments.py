"""Variance over images in one pass: partial sums that merge in any order, and are enough for an
interval too.

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
    """What n images leave behind, in float64: their sums (head, token, dim) and m2 (head,), the
    squared distances from their mean, summed over images, tokens and dims. Partial results of
    parts, processes or runs merge."""

    n: int
    sums: Array
    m2: Array

    @classmethod
    def zeros(cls, heads: int, tokens: int, dim: int) -> Moments:
        """Of no image."""
        return cls(0, np.zeros((heads, tokens, dim)), np.zeros(heads))

    @property
    def variance(self) -> Array:
        """(head,)"""
        found: Array = self.m2 / (self.n * self.sums.shape[1])
        return found

    def add(self, values: NDArray[Any]) -> None:
        """Take in more images: values (head, image, token, dim), bfloat16 as uint16 bits. Distances
        are from these images' own mean first; then as in merge."""
        heads, n = values.shape[:2]
        rows = values.reshape(heads, n, -1)
        sums = self.sums.reshape(heads, -1)
        buffer = np.empty((n, WIDTH))
        single = np.empty((n, WIDTH), np.float32)
        for head, start in product(range(heads), range(0, rows.shape[2], WIDTH)):
            piece = rows[head, :, start : start + WIDTH]
            known = sums[head, start : start + WIDTH]
            work = buffer[:, : piece.shape[1]]
            if piece.dtype == np.uint16:
                piece = bits_to_float32(piece, single[:, : piece.shape[1]])
            np.copyto(work, piece)
            total = work.sum(axis=0)
            work -= total / n
            self.m2[head] += np.vecdot(work, work).sum() + _between(known, self.n, total, n)
            known += total
        self.n += n

    def merge(self, other: Moments) -> Moments:
        """Of the images of both, which must be different ones (Chan, Golub and LeVeque 1983)."""
        merged = Moments(self.n + other.n, np.empty_like(self.sums), self.m2 + other.m2)
        out, ours, theirs = (each.sums.reshape(len(self.m2), -1) for each in (merged, self, other))
        for head, start in product(range(len(out)), range(0, out.shape[1], WIDTH)):
            piece = (head, slice(start, start + WIDTH))
            merged.m2[head] += _between(ours[piece], self.n, theirs[piece], other.n)
            np.add(ours[piece], theirs[piece], out=out[piece])
        return merged


def _between(sums: Array, n: int, other_sums: Array, other_n: int) -> float:
    """What the distance of two groups' means adds to m2."""
    if not (n and other_n):
        return 0.0
    apart = other_n * sums
    apart -= n * other_sums
    return float(np.vecdot(apart, apart)) / (n * other_n * (n + other_n))


def distances(groups: Sequence[Moments]) -> Array:
    """(head, group, 2): squared distances from the mean of all groups, summed, and the count they
    are a mean of.

    Their ratio, each summed over the groups, is the variance over all images.
    """
    heads, tokens, dim = groups[0].sums.shape
    counts = np.array([group.n for group in groups], np.float64)
    flat = [group.sums.reshape(heads, tokens * dim) for group in groups]
    found = np.empty((heads, len(groups), 2))
    found[..., 0] = np.stack([group.m2 for group in groups], axis=-1)
    found[..., 1] = counts * tokens
    for head, start in product(range(heads), range(0, tokens * dim, WIDTH // 2)):
        work = np.stack([sums[head, start : start + WIDTH // 2] for sums in flat])
        work -= counts[:, None] * (work.sum(axis=0) / counts.sum())
        found[head, :, 0] += np.vecdot(work, work) / counts
    return found


def stream_groups(
    run: Run,
    kind: Kind,
    ids: Sequence[str] | None = None,
    progress: Callable[[int, str], object] | None = None,
) -> Iterator[tuple[int, list[Moments]]]:
    """(layer, groups) for each stored layer of a kind, in one pass over the stored vectors.

    The images (all, or `ids`) are cut into GROUPS of neighbours in the data set's order, one image
    each where there are fewer. Processes may take some of the ids each:
    functools.reduce(Moments.merge, ...) over all their groups is that of all images. Memory: the
    groups of one layer and two parts of the run, whatever the number of images. progress: called
    with 1 and a note for each part read. Raises UsageError as shared_tokens does.
    """
    wanted = None if ids is None else set(ids)
    samples = [sample for sample in run.samples if wanted is None or sample.id in wanted]
    tokens = shared_tokens(run, kind, samples)
    count = min(GROUPS, len(samples))
    group_of = {sample.index: rank * count // len(samples) for rank, sample in enumerate(samples)}
    held: dict[int, Moments] = {}
    before: int | None = None
    for layer, part in _ahead(run.stream(kind, ids=ids, raw=True)):
        if before is not None and layer != before:
            yield before, list(held.values())
            held = {}
        before = layer
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # what is not finite has a variance that is not defined
            for group, values in _by_group(part, tokens, group_of):
                heads, _, _, dim = values.shape
                held.setdefault(group, Moments.zeros(heads, len(tokens), dim)).add(values)
        if progress is not None:
            progress(1, f"{kind} layer {layer}")
    if before is not None:
        yield before, list(held.values())


def count_reads(run: Run, kind: Kind) -> int:
    """How often stream_groups calls progress: a part of a layer each."""
    layers = run.config.stored_layers(kind) if kind in run.config.kinds else ()
    return len(run.parts()) * len(layers)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items; while one is worked on, another thread makes the next."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def _by_group(
    part: PartSlice, tokens: NDArray[np.int64], group_of: dict[int, int]
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Values (head, image, token, dim) of the images of one part, by group."""
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
    """Where, among each image's tokens, those of the base grid are. Raises UsageError where images
    differ in it.

    A token position then means the same place in every image and, for keys after the rotary
    embedding, has the same rotation, so that the variance is that of the keys before it.
    """
    if len(samples) < 2:
        raise UsageError(
            f"variance: run {run.name}: expected 2 images or more, found {len(samples)}: extract "
            "more"
        )
    first = samples[0]
    for other in samples:
        if _layout(other, kind) != _layout(first, kind):
            raise UsageError(
                f"variance: run {run.name}: image {first.id} has {_layout(first, kind)}, image "
                f"{other.id} {_layout(other, kind)}: the variance over images is taken at fixed "
                "token positions: extract pictures of one size, or with a model of one base view"
            )
        if (
            kind == "key"
            and run.config.keys == "post-rope"
            and other.image_start != first.image_start
        ):
            raise UsageError(
                f"variance: run {run.name}: image {first.id} starts at prompt position "
                f"{first.image_start}, image {other.id} at {other.image_start}, so their keys are "
                "rotated differently: extract with --keys pre-rope, or with prefixes of one length"
            )
    return np.array(first.base(kind).token_indices(), np.int64)


def _layout(sample: Sample, kind: Kind) -> str:
    span = sample.base(kind)
    rows, cols = span.grid
    newlines = ", with newlines" if span.row_stride != cols else ""
    return f"{rows} x {cols} tokens{newlines}" + (f" from token {span.start}" if span.start else "")
