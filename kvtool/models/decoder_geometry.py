"""What a transformers configuration says of a decoder's layers, one by one."""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import get_layer_types_and_kwargs

from kvtool.geometry import NO_CACHE, Geometry, Shape

WITHOUT_CACHE = ("dummy", "linear_attention", "conv")
"""Types of a cache's layers that take no keys and values."""
RECURRENT = ("linear_attention", "conv", "hybrid", "hybrid_sliding")
"""Types of layers that hand a state from token to token."""


def decoder_geometry(text: Any, vision_layers: int, vision_dim: int) -> Geometry:
    """Return the sizes of a decoder and a tower.

    Args:
        text: transformers' configuration of the decoder.
        vision_layers, vision_dim: Layers and dimensions of the tower.
    """
    # What a cache makes of each layer says whether it has keys and values.
    types, _ = get_layer_types_and_kwargs(text)
    shapes = [
        NO_CACHE if kind in WITHOUT_CACHE else _shape(layer)
        for kind, layer in zip(types, text.per_layer_config, strict=True)
    ]
    # Layers that are alike need no list of shapes, and a record without one stays as it was.
    is_uniform = len(set(shapes)) == 1
    kv_heads, head_dim = (max(sizes) for sizes in zip(*shapes, strict=True))
    return Geometry(
        layers=text.num_hidden_layers,
        q_heads=text.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=text.hidden_size,
        vision_layers=vision_layers,
        vision_dim=vision_dim,
        by_layer=() if is_uniform else tuple(shapes),
        recurrent=tuple(n for n, kind in enumerate(types) if kind in RECURRENT),
    )


def _shape(layer: Any) -> Shape:
    """Return the (kv_heads, head_dim) of a layer that has keys and values."""
    kv_heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
    head_dim = getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads
    return kv_heads, head_dim


def readers(text: Any) -> dict[int, tuple[int, ...]]:
    """Return, by layer that has keys and values, the layers that read them: itself, and those that
    share them.
    """
    modes = getattr(text, "kv_sharing_modes", None) or [None] * text.num_hidden_layers
    types = getattr(text, "layer_types", None) or [""] * len(modes)
    # The last layer of a type that makes keys and values is the one that later layers read.
    source_of = {types[n]: n for n, mode in enumerate(modes) if mode == "store"}
    reading: dict[int, tuple[int, ...]] = {
        n: (n,) for n, mode in enumerate(modes) if mode != "reuse"
    }
    for layer, mode in enumerate(modes):
        if mode == "reuse":
            reading[source_of[types[layer]]] += (layer,)
    return reading
