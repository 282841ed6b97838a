"""How much a tower's class token, or its pooling head's probe, attends to each patch.

After "Deep ViT features as dense visual descriptors" (Amir et al. 2022), who take DINO's class
token in the last layer. One query is enough, so that the attention of all tokens is never made,
whatever backend computes the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from kvtool.errors import UsageError
from kvtool.models.cache import watched


class ClassAttention:
    """The attention of the class token, a layer's first one, in a pass that is watched."""

    def __init__(self, layer: nn.Module) -> None:
        """Take a layer of a tower whose attention has projections for queries and for keys.

        Raises UsageError where it has none, as a plug-in's may.
        """
        # The first module with a projection of queries is the layer's attention.
        projecting = (module for module in layer.modules() if hasattr(module, "q_proj"))
        self.attention: Any = next(projecting, None)
        if self.attention is None:
            raise UsageError(
                "kinds: saliency: expected a tower with projections q_proj and k_proj, found "
                f"none in {type(layer).__name__}; leave it out"
            )
        self.query: torch.Tensor | None = None
        self.keys: torch.Tensor | None = None
        self.rotary: tuple[torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the class token's query and all keys of a pass of the tower."""

        # The class token is a layer's first: its query alone is kept.
        def see_queries(queries: torch.Tensor) -> None:
            self.query = queries[:, :1]

        def see_keys(keys: torch.Tensor) -> None:
            self.keys = keys

        def see_positions(_module: nn.Module, _inputs: Any, options: dict[str, Any]) -> None:
            self.rotary = options.get("position_embeddings")

        handle = self.attention.register_forward_pre_hook(see_positions, with_kwargs=True)
        try:
            with watched({self.attention.q_proj: see_queries, self.attention.k_proj: see_keys}):
                yield
        finally:
            handle.remove()

    def over(self, n_patches: int) -> torch.Tensor:
        """Return the attention to the patches, which are the layer's last tokens, (image, patch, 1)
        in the tower's precision.
        """
        assert self.query is not None, "the tower did not run up to this layer"
        assert self.keys is not None, "the tower did not run up to this layer"
        head_dim = self.attention.head_dim
        # Rotated only where the tower hands positions to its layers.
        keys = self.keys if self.rotary is None else rotated(self.keys, *self.rotary, head_dim)
        weights = mean_attention(self.query, keys, head_dim)
        return weights[:, -n_patches:]


def rotated(
    keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, head_dim: int
) -> torch.Tensor:
    """Return keys (image, token, head * head_dim) with those of the patches, which come last,
    rotated as DINOv3 does; class and register tokens have no position.

    cos, sin: (patch, head_dim).
    """
    from transformers.models.dinov3_vit.modeling_dinov3_vit import apply_rotary_pos_emb

    heads = keys.reshape(*keys.shape[:2], -1, head_dim).transpose(1, 2)
    # Only the last tokens, the patches, are turned: the others have no place in the picture.
    _, turned = apply_rotary_pos_emb(heads, heads, cos, sin)
    return turned.transpose(1, 2).flatten(2)


def probe_attention(head: Any, states: torch.Tensor) -> torch.Tensor:
    """Return the attention of SigLIP's pooling head to the patches (image, patch, dim) that enter
    it, (image, patch, 1).
    """
    attention: nn.MultiheadAttention = head.attention
    # The three projections of torch's attention lie in one matrix.
    query_weight, key_weight, _ = attention.in_proj_weight.chunk(3)
    query_bias, key_bias, _ = attention.in_proj_bias.chunk(3)
    query = linear(head.probe, query_weight, query_bias).expand(len(states), -1, -1)
    return mean_attention(query, linear(states, key_weight, key_bias), attention.head_dim)


def mean_attention(query: torch.Tensor, keys: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Return one query's attention (image, token, 1), the mean over heads.

    The softmax over all tokens is in float32, and the result in the keys' precision.

    Args:
        query: (image, 1, head * head_dim), not yet scaled.
        keys: (image, token, head * head_dim).
        head_dim: The dimension of a head.
    """
    queries_of_heads, keys_of_heads = (
        # Heads before tokens, (image, head, token, dim), in float32 for the softmax.
        states.float().reshape(*states.shape[:2], -1, head_dim).transpose(1, 2)
        for states in (query, keys)
    )
    # (image, head, token, dim) times (image, head, dim, 1)
    logits = keys_of_heads @ queries_of_heads.transpose(-1, -2) * head_dim**-0.5
    weights: torch.Tensor = logits.softmax(dim=2).mean(dim=1)
    return weights.to(keys.dtype)
