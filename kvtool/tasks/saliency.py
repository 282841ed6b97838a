"""The attention that a run holds, as the published vote of co-segmentation takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kvtool.errors import UsageError
from kvtool.features.layers import GridImage, Layer, centers_px
from kvtool.store import Run
from kvtool.types import SALIENCY, GridSpan

Array = np.ndarray[Any, Any]


def saliency_maps(layer: Layer, images: Sequence[GridImage]) -> list[Array]:
    """Return the saliency of images of a layer on their base grids, (cell,) from 0 to 1.

    A cell takes that of the patch at its center. Raises UsageError where the layer's run holds
    none.
    """
    import torch

    maps, values = _maps(layer.run, {image.id: image.span for image in images})
    # Attention that is not finite spoils the scores of every head.
    layer.count_nonfinite(torch.from_numpy(values)[None])
    return maps


def run_saliency(run: Run, spans: Mapping[str, GridSpan]) -> list[Array]:
    """Return the saliency of images of a run on the grids `spans` by image id, (cell,) from 0 to 1
    of each. Errors as of saliency_maps.
    """
    maps, _ = _maps(run, spans)
    return maps


def _maps(run: Run, spans: Mapping[str, GridSpan]) -> tuple[list[Array], Array]:
    """Return the map of each image, and the attention behind them as stored, (patch, 1)."""
    kinds = run.config.kinds
    if SALIENCY not in kinds:
        stored = ",".join(kinds)
        raise UsageError(
            f"run {run.name}: saliency vision: expected saliency, found {stored}; extract with "
            f"--kinds {stored},{SALIENCY} where the tower has a class token or a pooling head, or "
            "take border"
        )
    # There is one layer of it, the tower's last that runs.
    (number,) = run.config.stored_layers(SALIENCY)
    # Images follow each other in a block; offsets tell where each begins.
    block = run.read(SALIENCY, number, ids=list(spans))
    samples = {sample.id: sample for sample in run.samples if sample.id in spans}
    maps = [
        _on_grid(samples[image].base(SALIENCY), cells, block.values[start:stop, 0])
        for (image, cells), (start, stop) in zip(
            spans.items(), pairwise(block.offsets), strict=True
        )
    ]
    return maps, block.values


def _on_grid(span: GridSpan, cells: GridSpan, attention: Array) -> Array:
    """Return a tower's attention (patch,), which lies on `span`, on the cells of another grid."""
    # Amir et al. stretch each image's map before it is cut: attention sums to 1 over all patches.
    base = attention[span.token_indices()]
    lowest, highest = base.min(), base.max()
    stretched = (base - lowest) / (highest - lowest) if highest > lowest else base - lowest
    patches = [span.cell_at(x_px, y_px) for x_px, y_px in centers_px(cells)]
    rows, cols = np.transpose(patches)
    on_grid: Array = stretched.reshape(span.grid)[rows, cols]
    return on_grid
