"""Keys and values as a run stores them, made a decoder's own again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.geometry import Geometry
from kvtool.models.base import Array

Stored = Mapping[str, Array]
"""Arrays of one image by name, as StoredRun.read_image gives them."""


def stored_layers(
    name: str,
    geometry: Geometry,
    images: Sequence[Stored],
    stacked: Callable[[Sequence[Array]], torch.Tensor],
) -> dict[int, torch.Tensor]:
    """Return keys, or values, of the text before images and of these, by layer (image, kv_head,
    token, dim).

    Args:
        name: key or value.
        geometry: Of the decoder.
        images: The arrays of each image, of every layer.
        stacked: What makes arrays of equal shapes one tensor, an image in front.
    """
    states: dict[int, torch.Tensor] = {}
    for array in geometry.cache_arrays(name, range(geometry.layers)):
        joined = [
            # The prompt's tokens in their order: the text before the image, then the image.
            np.concatenate([item[f"text_{array.name}"], item[array.name]], axis=2)
            for item in images
        ]
        # Each array holds the layers of one shape; together they are all layers with a cache.
        states |= zip(array.layers, stacked(joined).unbind(1), strict=True)
    return dict(sorted(states.items()))


def check_stored(geometry: Geometry, images: Sequence[Stored]) -> None:
    """Raise UsageError unless every layer is stored and all images have as many tokens."""
    arrays = [
        array
        for name in ("key", "value")
        for array in geometry.cache_arrays(name, range(geometry.layers))
    ]
    # Shapes of the whole prompt, since images differ in the text before them, too.
    shapes = sorted(
        {
            _with_text(item[array.name].shape, item[f"text_{array.name}"].shape)
            for array in arrays
            for item in images
            if array.name in item and f"text_{array.name}" in item
        }
    )
    n_tokens = {shape[2] for shape in shapes}
    n_layers = {len(array.layers) for array in arrays}
    if len(n_tokens) != 1 or {shape[0] for shape in shapes} != n_layers:
        raise UsageError(
            f"cache: expected {len(geometry.cached_layers)} layers and equal numbers of tokens, "
            f"found shapes {shapes} (layer, kv_head, token, dim); extract every layer, and go on "
            "from images of one size at a time"
        )


def check_projected(images: Sequence[Stored]) -> None:
    """Raise UsageError where an image lacks what enters the decoder."""
    if any("projected" not in item for item in images):
        raise UsageError(
            "cache: expected projected tokens, since layers of linear attention hand on a state "
            "that no run holds, and the prompt is run again; extract with --kinds "
            "key,value,projected"
        )


def _with_text(image: Sequence[int], text: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an array with the tokens before the image."""
    layers, heads, n_tokens, dim = image
    return layers, heads, n_tokens + text[2], dim
