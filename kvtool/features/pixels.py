"""The pixels whose upsampled vectors are nearest to queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from kvtool.features.layers import GridImage, upsampling

Array = np.ndarray[Any, Any]


def nearest_pixels(queries: torch.Tensor, image: GridImage) -> Array:
    """(head, query, 2) the (x, y) index of the pixel whose bilinearly upsampled vector is nearest
    by cosine.

    The upsampled vectors are never made: their products with a query are its upsampled products,
    and their norms follow from the products of neighboring vectors. The first pixel in row-major
    order wins a tie.
    """
    down, across = (
        torch.from_numpy(w).to(image.values) for w in upsampling(image.span, image.wh_px)
    )
    pixels = [
        _nearest_pixels_head(q, v.unflatten(0, image.grid), down, across)
        for q, v in zip(normalize(queries, dim=-1), image.values, strict=True)
    ]
    return np.stack(pixels)


def _nearest_pixels_head(
    q: torch.Tensor, grid: torch.Tensor, down: torch.Tensor, across: torch.Tensor
) -> Array:
    # Upsampling is separable: the rows first, (height, col, dim).
    tall = torch.einsum("hr,rcd->hcd", down, grid)
    square, neighbor = tall.square().sum(-1), (tall[:, :-1] * tall[:, 1:]).sum(-1)
    # Of the weighted sum of two neighboring columns the squared length has their squares and their
    # product: no vector of a pixel is made.
    norm2 = square @ across.square().T + 2 * neighbor @ (across[:, :-1] * across[:, 1:]).T
    scale = norm2.clamp_min(1e-24).rsqrt()
    products = torch.einsum("qd,hcd->qhc", q, tall)
    # The queries are unit vectors already: over the pixel's length the product is the cosine.
    best = [int(torch.argmax((p @ across.T) * scale)) for p in products]
    width = len(across)
    return np.array([(index % width, index // width) for index in best])
