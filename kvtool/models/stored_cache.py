"""Keys and values as a run stores them, made a decoder's own again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.geometry import Geometry, LayerArray
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
    """Raise UsageError unless keys and values of every layer are stored, and all images have as
    many tokens.
    """
    arrays = {
        name: geometry.cache_arrays(name, range(geometry.layers)) for name in ("key", "value")
    }
    # A kind that was not stored at all is another matter than layers that were not.
    absent = [
        name for name in arrays if not all(_stored_shapes(arrays[name], item) for item in images)
    ]
    if absent:
        raise UsageError(
            f"cache: expected keys and values, found no {' and no '.join(absent)}; extract with "
            "--kinds key,value"
        )
    # Each array by itself, since the layers of one shape may be as many as those of another.
    expected = {array.name: len(array.layers) for name in arrays for array in arrays[name]}
    shapes = [_stored_shapes([*arrays["key"], *arrays["value"]], item) for item in images]
    is_whole = all(_layer_counts(image) == expected for image in shapes)
    distinct = sorted({shape for image in shapes for shape in image.values()})
    if not is_whole or len({shape[2] for shape in distinct}) != 1:
        raise UsageError(
            f"cache: expected {len(geometry.cached_layers)} layers and equal numbers of tokens, "
            f"found shapes {distinct} (layer, kv_head, token, dim); extract every layer, and go "
            "on from images of one size at a time"
        )


def _stored_shapes(arrays: Sequence[LayerArray], item: Stored) -> dict[str, tuple[int, ...]]:
    """Return the shapes of those arrays that an image has, with the text before it, since images
    differ in that, too.
    """
    return {
        array.name: _with_text(item[array.name].shape, item[f"text_{array.name}"].shape)
        for array in arrays
        if array.name in item and f"text_{array.name}" in item
    }


def _layer_counts(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return how many layers each array has."""
    return {name: shape[0] for name, shape in shapes.items()}


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
