"""Sizes of a model's decoder and tower, and which arrays hold the keys and values of its layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Shape = tuple[int, int]
"""(kv_heads, head_dim) of a layer's keys and values."""
NO_CACHE: Shape = (0, 0)
"""Of a layer without keys and values of its own."""
_SHAPED = re.compile(r"_\d+x\d+$")


class LayerArray(NamedTuple):
    """An array of layers whose vectors have one shape.

    name: the kind's, or, where layers of a kind differ, with their shape: key_8x256 has 8 heads of
        256 dimensions.
    """

    name: str
    layers: tuple[int, ...]
    heads: int
    dim: int


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model's decoder and tower; an encoder alone has zeros for the decoder.

    Attributes:
        kv_heads, head_dim: of every layer; where layers differ, the largest.
        by_layer: (kv_heads, head_dim) of each layer where they differ, (0, 0) of a layer that has
            no keys and values of its own; empty where all layers are alike.
        recurrent: layers of linear attention. They hand a state from token to token, which no run
            holds; other layers without keys and values read those of an earlier layer.
    """

    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vision_layers: int
    vision_dim: int
    by_layer: tuple[Shape, ...] = ()
    recurrent: tuple[int, ...] = ()

    def shape(self, layer: int) -> Shape:
        """Return the (kv_heads, head_dim) of a layer; (0, 0) where it has none."""
        return self.by_layer[layer] if self.by_layer else (self.kv_heads, self.head_dim)

    @property
    def cached_layers(self) -> tuple[int, ...]:
        """The layers that have keys and values of their own."""
        return tuple(n for n in range(self.layers) if self.shape(n) != NO_CACHE)

    def cached(self, layers: Collection[int]) -> tuple[int, ...]:
        """Return those of some layers that have keys and values of their own, in order."""
        return tuple(layer for layer in self.cached_layers if layer in layers)

    def cache_arrays(self, name: str, layers: Sequence[int]) -> tuple[LayerArray, ...]:
        """Return the arrays that hold keys, or values, of some layers: one for each shape.

        Args:
            name: key, value, text_key or text_value.
            layers: the layers to hold; those without keys and values are left out.
        """
        layers_of: dict[Shape, list[int]] = {}
        for layer in self.cached(layers):
            layers_of.setdefault(self.shape(layer), []).append(layer)
        is_shaped = len(layers_of) > 1
        return tuple(
            LayerArray(f"{name}_{heads}x{dim}" if is_shaped else name, tuple(numbers), heads, dim)
            for (heads, dim), numbers in layers_of.items()
        )

    @property
    def heads(self) -> tuple[tuple[int, int], ...]:
        """Every (layer, kv_head) of the decoder."""
        return tuple(
            (layer, head) for layer in range(self.layers) for head in range(self.shape(layer)[0])
        )

    def without_cache(self, layer: int) -> str:
        """Return why a layer has no keys and values of its own, in words."""
        reason = "is of linear attention" if layer in self.recurrent else "reads those of another"
        return f"layer {layer} {reason} and has no keys and values of its own"


def array_kind(name: str) -> str:
    """Return the kind of an array, or text_key and the like: its name without a shape."""
    return _SHAPED.sub("", name)
