"""Hand-written stores: tiny runs whose every vector the test chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.store import Run, RunConfig, float32_to_bits, open_store, part_name
from kvtool.types import Geometry, GridSpan, Kind, ModelInfo, RunView, Sample
from tests.support.runs import create_run

Array = np.ndarray[Any, Any]
LAYERS, HEADS, DIM = 8, 2, 16
PLANTED = (5, 1)
"""The block (layer, kv_head) that holds the answer."""

Fill = Callable[[Sample, int, int], Array]
"""(sample, layer, head) -> (n_tokens, DIM)."""


def sample(
    id: str,
    index: int,
    wh_px: tuple[int, int],
    grid: tuple[int, int],
    *,
    newline: bool = False,
    start: int = 0,
    cover: tuple[float, float, float, float] | None = None,
) -> Sample:
    """One image of `grid` tokens; `newline` ends each row with a token, `start` puts tokens before
    the grid.
    """
    stride = grid[1] + newline
    span = GridSpan(
        "base", start, grid, stride, cover or (0.0, 0.0, float(wh_px[0]), float(wh_px[1]))
    )
    count = start + grid[0] * stride
    vision = GridSpan("base", 0, grid, grid[1], span.cover_xyxy_px)
    return Sample(
        id=id,
        index=index,
        image_wh_px=wh_px,
        n_tokens=count,
        spans=(span,),
        n_vision_tokens=grid[0] * grid[1],
        vision_spans=(vision,),
        prefix="",
        prefix_ids=(1,),
        image_start=1,
        next_position=count + 1,
    )


def write_run(
    path: Path,
    dataset: str,
    split: str,
    root: Path,
    samples: Sequence[Sample],
    fill: Fill,
    *,
    seed: int = 0,
    spoiled: Sequence[Kind] = (),
    **options: Any,
) -> Run:
    """A run whose value vectors are `fill`'s; projected and vision are noise.

    Keys repeat the values.

    spoiled: kinds whose very first number is NaN. options: those of `run_config`.
    """
    config = run_config(dataset, split, root, **options)
    run = create_run(open_store(path, create=True), config)
    rng = np.random.default_rng(seed)
    for start in range(0, len(samples), config.part_size):
        part = list(samples[start : start + config.part_size])
        arrays = _part_arrays(config, part, fill, rng)
        for kind in spoiled if start == 0 else ():
            arrays[kind][0].reshape(-1)[0] = 0x7FC0 if config.model.dtype == "bfloat16" else np.nan
        name = part_name(part[0].index, part[-1].index + 1)
        run.commit_part(name, part, arrays, _part_text(config, part))
    run.refresh()
    return run


def run_config(
    dataset: str,
    split: str,
    root: Path,
    *,
    model: str = "planted",
    name: str = "",
    prefix: str = "none",
    kinds: tuple[Kind, ...] = ("value", "projected", "vision"),
    dtype: Any = "bfloat16",
    layers: int = LAYERS,
    part_size: int = 5,
    view: RunView = "base",
) -> RunConfig:
    """What a run of planted vectors is made of.

    prefix: the condition; its texts stand in the samples.
    """
    geometry = Geometry(layers, 2 * HEADS, HEADS, DIM, 2 * DIM, 1, DIM)
    return RunConfig(
        name=name,
        model=ModelInfo(model, f"of {model}", "planted", geometry, dtype, "sdpa"),
        dataset=dataset,
        dataset_path=str(root),
        split=split,
        prefix=prefix,
        view=view,
        keys="post-rope",
        kinds=kinds,
        layers=tuple(range(layers)) if {"key", "value"} & set(kinds) else (),
        vision_layers=(3,) if "vision" in kinds else (),
        part_size=part_size,
    )


def stored(values: Array, dtype: str) -> Array:
    """Values as a run of this precision stores them."""
    return (
        float32_to_bits(values.astype(np.float32)) if dtype == "bfloat16" else values.astype(dtype)
    )


def _part_arrays(
    config: RunConfig, part: Sequence[Sample], fill: Fill, rng: np.random.Generator
) -> dict[str, Any]:
    """The vectors of every kind of each image of a part."""
    layers, dtype = config.model.geometry.layers, config.model.dtype
    value = [
        np.stack([np.stack([fill(s, i, h) for h in range(HEADS)]) for i in range(layers)])
        for s in part
    ]
    arrays: dict[str, Any] = {}
    for kind in config.kinds:
        if kind in ("key", "value"):
            vectors = value
        elif kind == "projected":
            vectors = [rng.normal(size=(1, 1, s.n_tokens, 2 * DIM)) for s in part]
        else:
            vectors = [rng.normal(size=(1, 1, s.n_vision_tokens, DIM)) for s in part]
        arrays[kind] = [stored(v, dtype) for v in vectors]
    return arrays


def _part_text(config: RunConfig, part: Sequence[Sample]) -> dict[str, Any]:
    """Zeros for the text before the images of a part."""
    shape = (config.model.geometry.layers, HEADS, sum(s.image_start for s in part), DIM)
    kinds = [kind for kind in ("key", "value") if kind in config.kinds]
    return {kind: stored(np.zeros(shape), config.model.dtype) for kind in kinds}


def noise(seed: int) -> Fill:
    """Vectors drawn anew for every image, layer and head."""

    def fill(s: Sample, layer: int, head: int) -> Array:
        return np.random.default_rng([seed, s.index, layer, head]).normal(size=(s.n_tokens, DIM))

    return fill
