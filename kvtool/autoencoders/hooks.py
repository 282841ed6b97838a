"""Where in a decoder layer an SAE reads, told from the names that libraries give to it."""

from __future__ import annotations

import re

_LAYERS = (
    r"(?:^|[./_-])(?:blocks|layers|h)\.(\d+)(?:\.|$)",
    r"(?:^|[./_-])layers?[_.-]?(\d+)(?![\d.]*[kKxX])",
    r"(?:^|[./_-])L(\d+)[RMA]?(?=[-_.x]|$)",
    r"-l(\d+)\.pt$",
)
_HOOKS = (
    (r"resid_pre|layers\.\d+\.input", "resid_pre"),
    (r"resid_mid", "resid_mid"),
    (r"resid_post|-res\b|layers\.\d+\.output|L\d+R\b", "resid_post"),
    (r"hook_z|-att\b|o_proj\.input|self_attn\.o_proj\.in", "attn_z"),
    (r"attn_out|self_attn\.output|L\d+A\b|\.self_attn$|\.attn$", "attn_out"),
    (r"mlp_out|-mlp\b|mlp\.output|L\d+M\b|\.mlp$", "mlp_out"),
    (r"hook_embed|embed_tokens", "embedding"),
)
"""Patterns of each place, the first that fits counts."""

RESIDUAL = ("resid_pre", "resid_post")
"""Places at which the whole residual stream stands, between two layers."""


def layer_of(name: str) -> int | None:
    """Return the layer that a hook's or folder's name says, 0-based; None where it says none."""
    for pattern in _LAYERS:
        if matches := re.findall(pattern, name):
            return int(matches[-1])
    return None


def hook_of(name: str, default: str = "resid_post") -> str:
    """Return the place that a hook's or folder's name says, e.g. "resid_post"."""
    return next((hook for pattern, hook in _HOOKS if re.search(pattern, name)), default)


def stream_layer(layer: int, hook: str) -> int | None:
    """Return the layer whose output is the stream at a place; None for places that are none.

    What goes into layer L is what comes out of L - 1; -1 is the embedding.
    """
    if hook == "resid_post":
        return layer
    return layer - 1 if hook == "resid_pre" else None
