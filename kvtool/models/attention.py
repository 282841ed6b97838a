"""The attention of decoder layers, where it happens: what is about to look at what, and a place to
step in.

Set through transformers' AttentionInterface and AttentionMaskInterface on the decoder alone. At
the attention of each layer that somebody acts on, queries and keys are there after the rotary
embedding, whatever backend the model runs on; one layer's queries are in memory at a time. What
acts may look (`image_attention`) or attend with another mask (kvtool.models.knockout,
kvtool.models.intervention).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kvtool.models.base import LanguageModel
from kvtool.models.cache import Finished, until_finished
from kvtool.types import Sample

NAME = "kvtool_attention"


@dataclass(frozen=True)
class AttentionCall:
    """What one layer's attention is about to do.

    Attributes:
        queries: (row, q_head, query, dim), after the rotary embedding; the last positions of all.
        keys: (row, kv_head, key, dim), those of the cache and of the queries' own tokens.
        mask: What is visible, bool that broadcasts to (row, q_head, query, key), or what to add to
            logits; None for plain causal.
        scale: What logits are multiplied by.
        softcap: The bound of logits, which tanh brings them under; None where there is none.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor | None
    scale: float
    softcap: float | None = None

    def visible(self) -> torch.Tensor:
        """Return the mask, which broadcasts to (row, q_head, query, key), also where there is
        none.
        """
        if self.mask is not None:
            return self.mask
        # The queries are the last positions of the cache.
        n_queries, n_keys = self.queries.shape[2], self.keys.shape[2]
        positions = torch.arange(n_keys, device=self.keys.device)
        return (positions <= positions[n_keys - n_queries :, None])[None, None]

    def logits(self, query_indices: torch.Tensor) -> torch.Tensor:
        """Compute the logits of some queries, float32 (row, q_head, n, key), minus infinity where
        nothing is visible.

        query_indices: (row, n).
        """
        rows, q_heads, n_queries, dim = self.queries.shape
        kv_heads, n_keys = self.keys.shape[1:3]
        n = query_indices.shape[1]
        # The same positions are picked from all heads of a row.
        picks = query_indices[:, None, :, None]
        queries = self.queries.gather(2, picks.expand(-1, q_heads, -1, dim)).float()
        # Neighboring query heads share a KV head: their queries are multiplied with it together.
        grouped = queries.reshape(rows, kv_heads, -1, dim)
        logits = (grouped @ self.keys.float().transpose(2, 3)).reshape(rows, q_heads, n, n_keys)
        # As the model does it: scaled first, then bounded.
        logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        # A mask may be one for all rows or heads: it is picked from as it broadcasts.
        mask = self.visible()
        mask = mask.expand(rows, mask.shape[1], n_queries, n_keys)
        mask = mask.gather(2, picks.expand(-1, mask.shape[1], -1, n_keys))
        is_bool = mask.dtype == torch.bool
        return logits.masked_fill(~mask, float("-inf")) if is_bool else logits + mask

    def weights(self, query_indices: torch.Tensor) -> torch.Tensor:
        """Compute the attention of some queries on all keys, float32 (row, q_head, n, key)."""
        return self.logits(query_indices).softmax(dim=-1)


Act = Callable[[AttentionCall], torch.Tensor | None]
"""What is done at the attention of a layer. It returns the mask to attend with instead, which
broadcasts to (row, q_head, query, key): bool, or a number to add to each logit; None to leave the
attention as it is."""

_ACTS: WeakKeyDictionary[nn.Module, Act] = WeakKeyDictionary()
"""By the attention module of a layer; only what `acting` is at work on."""


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attend as sdpa does, after what acts on the module's layer."""
    act = _ACTS.get(module)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    softcap = options.get("softcap")
    if act is not None:
        mask = act(AttentionCall(query, key, attention_mask, scale, softcap))
        attention_mask = attention_mask if mask is None else mask
    has_precision = attention_mask is None or attention_mask.dtype in (torch.bool, query.dtype)
    if softcap is None and has_precision:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    return _in_float32(AttentionCall(query, key, attention_mask, scale, softcap), value), None


def _in_float32(call: AttentionCall, value: torch.Tensor) -> torch.Tensor:
    """Attend with bounded logits, or with numbers added to logits in another precision than the
    model's, which sdpa cannot; returns (row, query, q_head, dim).
    """
    rows, _, n_queries, _ = call.queries.shape
    everything = torch.arange(n_queries, device=value.device).expand(rows, -1)
    # Each value head serves a group of neighboring query heads.
    group = call.queries.shape[1] // value.shape[1]
    weights = call.weights(everything).to(value.dtype)
    return (weights @ value.repeat_interleave(group, dim=1)).transpose(1, 2).contiguous()


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def acting(model: LanguageModel, acts: Mapping[int, Act]) -> Iterator[None]:
    """Within, something is done at the attention of some decoder layers, by their numbers."""
    layers = model.language_model.layers
    modules = {layers[number].self_attn: act for number, act in acts.items()}
    # The backend is set on the decoder alone: the tower keeps its own.
    model.language_model.set_attn_implementation(NAME)
    _ACTS.update(modules)
    try:
        yield
    finally:
        for module in modules:
            del _ACTS[module]
        model.language_model.set_attn_implementation(model.info.attention)


@torch.inference_mode()
def image_attention(
    model: LanguageModel,
    cache: Any,
    samples: Sequence[Sample],
    texts: Sequence[str],
    queries: Sequence[Sequence[int]],
    layers: Sequence[int],
) -> torch.Tensor:
    """Compute the attention of some tokens of texts on the tokens of the image before them.

    The cache stays as it was, and the pass ends with the attention of the last layer asked for.

    Args:
        model: A loaded model.
        cache: Of the prompts up to the image, a row a text, as `restore` builds it.
        samples: The image of each row.
        texts: What follows each image, of equal numbers of tokens (else UsageError).
        queries: Of each text indices among its tokens, equally many.
        layers: The decoder's layers, 0-based.

    Returns:
        A float32 tensor on the CPU, (row, layer, q_head, query, image_token): shares of the
        softmax over all that a token sees, so that they add up to 1 together with those of text.
    """
    query_indices = torch.tensor(queries)
    text_start = model.image_end(samples[0])
    maps: dict[int, torch.Tensor] = {}

    def watch(layer: int) -> Act:
        """Return what takes the attention of a layer."""

        def see(call: AttentionCall) -> None:
            """Keep the attention on the image's tokens; end the pass where nothing is to come."""
            # The first query may be LLaVA's newline, which stands between image and text.
            first = text_start - (call.keys.shape[2] - call.queries.shape[2])
            weights = call.weights(first + query_indices.to(call.queries.device))
            rows = [
                row[..., sample.image_start : sample.image_start + sample.n_tokens]
                for row, sample in zip(weights, samples, strict=True)
            ]
            maps[layer] = torch.stack(rows).cpu()
            if layer == max(layers):
                raise Finished

        return see

    with acting(model, {layer: watch(layer) for layer in layers}), until_finished():
        model.logits(cache, samples, texts, last=True)
    return torch.stack([maps[layer] for layer in layers], dim=1)
