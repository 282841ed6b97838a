"""The attention that a run holds, as the published vote of co-segmentation takes it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from kvtool.errors import UsageError
from kvtool.features.layers import GridImage, Layer, centers_px
from kvtool.types import SALIENCY

Array = np.ndarray[Any, Any]


def saliency_maps(layer: Layer, images: Sequence[GridImage]) -> list[Array]:
    """Return the saliency of images of a layer on their base grids, (cell,) from 0 to 1.

    A cell takes that of the patch at its center. Raises UsageError where the layer's run holds
    none.
    """
    import torch

    run = layer.run
    kinds = run.config.kinds
    if SALIENCY not in kinds:
        stored = ",".join(kinds)
        raise UsageError(
            f"run {run.name}: saliency vision: expected saliency, found {stored}; extract with "
            f"--kinds {stored},{SALIENCY} where the tower has a class token or a pooling head, or "
            "take border"
        )
    (number,) = run.config.stored_layers(SALIENCY)
    block = run.read(SALIENCY, number, ids=[image.id for image in images])
    # Attention that is not finite spoils the scores of every head.
    layer.count_nonfinite(torch.from_numpy(block.values)[None])
    return [
        _on_grid(image, block.values[start:stop, 0])
        for image, (start, stop) in zip(images, pairwise(block.offsets), strict=True)
    ]


def _on_grid(image: GridImage, attention: Array) -> Array:
    """Return a tower's attention (patch,) on the cells of an image in a block."""
    span = image.sample.base(SALIENCY)
    # Amir et al. stretch each image's map before it is cut: attention sums to 1 over all patches.
    base = attention[span.token_indices()]
    lowest, highest = base.min(), base.max()
    stretched = (base - lowest) / (highest - lowest) if highest > lowest else base - lowest
    cells = [span.cell_at(x_px, y_px) for x_px, y_px in centers_px(image.span)]
    rows, cols = np.transpose(cells)
    on_grid: Array = stretched.reshape(span.grid)[rows, cols]
    return on_grid
