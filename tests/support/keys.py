"""Runs whose vectors a test of the variance chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.store import Run, RunConfig, open_store, part_name
from kvtool.types import Geometry, ModelInfo, Sample
from tests.support.runs import create_run
from tests.support.units import sample, stored

Array = np.ndarray[Any, Any]


def samples(count: int, grid: tuple[int, int] = (3, 4), **options: Any) -> list[Sample]:
    return [sample(f"folder/image {i}", i, (40, 30), grid, **options) for i in range(count)]


def write(
    path: Path,
    images: Sequence[Sample],
    values: Sequence[Array] | Array,
    *,
    part_size: int = 5,
    **changes: Any,
) -> Run:
    """A run of keys with the `values` (layer, head, token, dim) of each image."""
    layers, heads, dim = values[0].shape[0], values[0].shape[1], values[0].shape[-1]
    dtype = changes.pop("dtype", "float32")
    model = ModelInfo(
        "planted", "0", "planted", Geometry(layers, heads, heads, dim, dim, 4, dim), dtype, "sdpa"
    )
    config = RunConfig(
        name="keys",
        model=model,
        dataset="folder",
        dataset_path=None,
        split="all",
        prefix="none",
        view="base",
        keys="post-rope",
        kinds=("key",),
        layers=tuple(range(layers)),
        vision_layers=(),
    )
    run = create_run(open_store(path, create=True), replace(config, **changes))
    for start in range(0, len(images), part_size):
        part = list(images[start : start + part_size])
        arrays: dict[str, Any] = {
            kind: [stored(array, dtype) for array in values[start : start + part_size]]
            for kind in run.config.kinds
        }
        n_before = sum(image.image_start for image in part)
        text = np.zeros((layers, heads, n_before, dim), np.float32)
        kinds = [kind for kind in run.config.kinds if kind in ("key", "value")]
        texts: dict[str, Any] = {kind: stored(text, dtype) for kind in kinds}
        run.commit_part(part_name(start, start + len(part)), part, arrays, texts)
    return run


def planted(
    path: Path,
    n_images: int = 12,
    constant: Sequence[tuple[int, int]] = (),
    layers: int = 28,
    heads: int = 4,
) -> Run:
    """A run of unit noise whose `constant` (layer, head) are the same in every image."""
    rng = np.random.default_rng(0)
    images = samples(n_images)
    shape = layers, heads, images[0].n_tokens, 8
    fixed = rng.normal(3, 5, shape)
    values = fixed + rng.normal(size=(n_images, *shape))
    for layer, head in constant:
        values[:, layer, head] = fixed[layer, head]
    return write(path, images, values)
