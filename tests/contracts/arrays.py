"""Arrays and tensors of both sides, to be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kvtool.models.captured import Captured

Array = np.ndarray[Any, Any]


def assert_same(captured: Captured, expected: Captured) -> None:
    """The same arrays of the same images, bit for bit."""
    for ours, theirs in ((captured.arrays, expected.arrays), (captured.text, expected.text)):
        assert ours.keys() == theirs.keys()
        for kind, arrays in theirs.items():
            for actual, desired in zip(ours[kind], arrays, strict=True):
                assert actual.dtype == desired.dtype
                np.testing.assert_array_equal(actual, desired)


def states_of(layer: Any, name: str, tokens: slice = slice(None)) -> Array | None:
    """Keys or values (kv_head, token, dim) of a layer of transformers' cache; None where the layer
    has none of its own.
    """
    states = getattr(layer, f"{name}s", None)
    return None if states is None else to_array(states[0, :, tokens])


def assert_same_cache(ours: Any, theirs: Any) -> None:
    """The same keys and values in every layer that has some, bit for bit."""
    for left, right in zip(ours.layers, theirs.layers, strict=True):
        assert hasattr(left, "keys") == hasattr(right, "keys")
        if getattr(left, "keys", None) is not None:
            assert torch.equal(left.keys, right.keys)
            assert torch.equal(left.values, right.values)


def of_layer(arrays: Any, model: Any, name: str, layers: Any, layer: int, index: int = 0) -> Array:
    """What was captured of one layer of some, of one image: (head, token, dim)."""
    for array in model.info.geometry.cache_arrays(name, layers):
        if layer in array.layers:
            states: Array = arrays[array.name][index][array.layers.index(layer)]
            return states
    raise AssertionError(f"{name} has no layer {layer}")


def to_array(tensor: torch.Tensor) -> Array:
    """On the host, bfloat16 as its bits."""
    bits: Any = tensor.detach().contiguous()
    array: Array = (bits.view(torch.uint16) if bits.dtype == torch.bfloat16 else bits).numpy()
    return array


def rotated_by_hand(
    keys: Array,
    positions: Array,
    theta: float,
    sections: list[int] | None,
    is_interleaved: bool = False,
) -> Array:
    """Rotary embedding in NumPy (equation 34 of RoFormer, halves as in Llama).

    With `sections` the frequencies are dealt out to the three axes of
    M-RoPE in turn, or one by one where they are interleaved. keys (layer, kv_head, token, dim),
    positions (axis, token).
    """
    half = keys.shape[-1] // 2
    frequencies = theta ** (-np.arange(half) / half)
    axes = np.repeat(np.arange(len(sections)), sections) if sections else np.zeros(half, int)
    if sections and is_interleaved:
        # Every third frequency is an axis's until it has its share; time takes what is left.
        axes = np.zeros(half, int)
        for axis in (1, 2):
            axes[axis : 3 * sections[axis] : 3] = axis
    angles = positions[axes].T * frequencies
    first, second = keys[..., :half], keys[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
