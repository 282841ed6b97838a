"""Bytes of a run before anything is written, and whether they fit on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol

from rich.filesize import decimal

from kvtool.errors import SpaceError
from kvtool.store.encoding import STORED_DTYPE
from kvtool.store.objects.addresses import remote_address
from kvtool.types import Geometry, Kind, ModelInfo, Precision, Sample

LZ4_RATIO: dict[Precision, float] = {"bfloat16": 0.8, "float16": 0.96, "float32": 0.9}
"""Stored over raw bytes, measured (docs/store-format.md) and rounded up."""

MARGIN_BYTES = 64 << 20


class KeptBytes(Protocol):
    """Which arrays a run keeps: models.base.Request and RunConfig are such."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of vectors that are stored."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The decoder's layers that are stored."""

    @property
    def vision_layers(self) -> tuple[int, ...]:
        """The tower's layers that are stored."""


def token_bytes(kind: Kind, geometry: Geometry, dtype: Precision, selection: KeptBytes) -> int:
    """Return how many bytes one token takes in a kind's array, over its layers and heads.

    Compression is not counted."""
    # Layers may differ in heads and width, and some have no cache of their own.
    shapes = [geometry.shape(layer) for layer in geometry.cached(selection.layers)]
    n_cached = sum(heads * dim for heads, dim in shapes)
    values = {
        "key": n_cached,
        "value": n_cached,
        "projected": geometry.hidden,
        "vision": len(selection.vision_layers) * geometry.vision_dim,
        "hidden": len(selection.layers) * geometry.hidden,
        "saliency": 1,
    }
    return values[kind] * STORED_DTYPE[dtype].itemsize


def sample_bytes(sample: Sample, model: ModelInfo, selection: KeptBytes) -> int:
    """Return how many bytes one image takes with the text before it, before compression."""
    total = 0
    for kind in selection.kinds:
        tokens = sample.count_tokens(kind)
        # Keys and values of the text before the image are stored beside the image's own.
        if kind in ("key", "value"):
            tokens += sample.image_start
        total += tokens * token_bytes(kind, model.geometry, model.dtype, selection)
    return total


def run_bytes(
    samples: Sequence[Sample], model: ModelInfo, selection: KeptBytes, n_texts: int = 0
) -> int:
    """Return how many bytes these images and n_texts texts take, before compression."""
    texts = n_texts * token_bytes("value", model.geometry, model.dtype, selection)
    return texts + sum(sample_bytes(sample, model, selection) for sample in samples)


def expected_bytes(raw_bytes: int, codec: str, dtype: Precision = "bfloat16") -> int:
    """Return how many bytes on disk to expect of so many raw ones."""
    return raw_bytes if codec == "none" else round(raw_bytes * LZ4_RATIO[dtype])


def free_bytes_of_store(path: str | PathLike[str]) -> int | None:
    """Return the free bytes of a store's file system; None of an object store, never full."""
    return None if remote_address(path) is not None else free_bytes(path)


def free_bytes(path: str | PathLike[str]) -> int:
    """Free bytes of the file system that holds `path`, or will."""
    # The store's folder may not be there yet: the nearest one above it says which disk it will be.
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(path: str | PathLike[str], needed_bytes: int) -> None:
    """Raise SpaceError where fewer than the needed bytes and a small margin are free."""
    free = free_bytes_of_store(path)
    if free is not None and needed_bytes + MARGIN_BYTES > free:
        raise SpaceError(
            f"store {path}: expected {decimal(needed_bytes)} and {decimal(MARGIN_BYTES)} to spare, "
            f"found {decimal(free)} free: free some, or keep fewer --kinds, --layers or images "
            "(--limit)"
        )
