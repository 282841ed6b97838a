"""The residual stream at image tokens, from what a run holds: no tower, no pixels, no whole prompt.

A token's stream in a layer depends on its own input and, through attention, on the keys and values
of the tokens before it. A run stores all of these: `projected` is what enters the decoder, and
`key` and `value` of every layer are what attention reads. So the streams of any few image tokens
follow from them alone, at the cost of these few tokens' rows of the decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from kvtool.errors import UsageError
from kvtool.models.base import Array, BeforeDecoder
from kvtool.models.cache import layer_outputs
from kvtool.models.continuation import Continuation
from kvtool.models.device import from_numpy, to_device
from kvtool.models.families import adds_features
from kvtool.types import KeyPosition, Kind, ModelInfo, Sample

KINDS_NEEDED: tuple[Kind, ...] = ("key", "value", "projected")
"""What a run must hold, keys and values of every layer."""


class StoredPrompt(Cache):
    """Gives every layer the keys and values of the whole prompt, whatever tokens are run."""

    def __init__(
        self, keys: Mapping[int, torch.Tensor], values: Mapping[int, torch.Tensor]
    ) -> None:
        """Take (image, kv_head, token, dim) of each layer that has keys and values."""
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.keys = keys
        self.values = values

    def update(
        self,
        key_states: torch.Tensor,  # noqa: ARG002  the stored ones are the same
        value_states: torch.Tensor,  # noqa: ARG002
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer's stored states in place of those of the few tokens that run."""
        return self.keys[layer_idx], self.values[layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return 0, since the mask and the positions are given and not counted from here."""
        return 0


@torch.inference_mode()
def hidden_states(
    model: Continuation,
    samples: Sequence[Sample],
    arrays: Sequence[Mapping[str, Array]],
    tokens: Array,
    layers: Sequence[int],
    keys: KeyPosition = "post-rope",
) -> torch.Tensor:
    """Compute the residual stream of chosen image tokens after chosen layers.

    The values are those that a hook on each layer's output sees in a pass over the whole prompt,
    before the final norm.

    Args:
        model: A family's loaded model.
        samples: Images of equal numbers of tokens, before and of the image.
        arrays: Of each image `key`, `value` (layer, kv_head, token, dim), `text_key`, `text_value`
            (layer, kv_head, prefix_token, dim) of every layer, and `projected` (1, 1, token,
            hidden), as stored.
        tokens: Indices of image tokens, (image, n), in prompt order.
        layers: The decoder's layers, 0-based.
        keys: Whether keys were stored before or after the rotary embedding.

    Returns:
        A tensor (layer, image, n, hidden) in the model's precision.

    Raises UsageError where layers are missing or images differ in their numbers of tokens, and of
    a model with DeepStack, whose stream takes more of an image than a run stores.
    """
    check_deepstack(model.info)
    geometry = model.info.geometry
    device = model.checkpoint.device
    projected = to_device(
        [from_numpy(item["projected"][0, 0], model.checkpoint.dtype) for item in arrays], device
    )
    if geometry.recurrent:
        # A token's stream takes the state of linear attention over all tokens before it.
        return prompt_states(model, samples, projected, tokens, layers)
    prompt = model.restore(samples, arrays, keys)
    stored = {layer: prompt.layers[layer] for layer in geometry.cached_layers}
    cache = StoredPrompt(
        {layer: states.keys for layer, states in stored.items()},
        {layer: states.values for layer, states in stored.items()},
    )
    # Indices within the image; in the prompt they stand behind the text before it.
    indices = torch.from_numpy(np.ascontiguousarray(tokens)).long().to(device)
    _check_tokens(indices, samples)
    # What enters the decoder at the chosen tokens, (image, n, hidden).
    entering = projected.gather(1, indices[:, :, None].expand(-1, -1, projected.shape[2]))
    start = samples[0].image_start
    positions = _positions(model, samples, start + indices)
    n_keys = start + samples[0].n_tokens
    # The chosen tokens are queries among all stored keys: masks and positions are those of the
    # whole prompt.
    masks = _masks(model, samples, start + indices, n_keys)
    # The decoder's inputs by token id, where it has some, are those of placeholders.
    placeholders = torch.full_like(indices, model.image_id())
    with layer_outputs(model.language_model.layers, layers, stop=True) as outputs:
        model.language_model(
            inputs_embeds=entering,
            position_ids=positions,
            attention_mask=masks,
            past_key_values=cache,
            use_cache=True,
            **model.beside(placeholders),
        )
    return torch.stack([outputs[layer].to(device) for layer in layers])


@torch.inference_mode()
def prompt_states(
    model: Continuation,
    samples: Sequence[Sample],
    vectors: torch.Tensor,
    tokens: Array,
    layers: Sequence[int],
) -> torch.Tensor:
    """Compute the residual stream of chosen image tokens where other vectors stand at the image's
    place, by a pass over the whole prompt.

    Args:
        model: A family's loaded model.
        samples: Images of equal numbers of tokens, before and of the image.
        vectors: What enters the decoder at each image's tokens, (image, token, hidden).
        tokens: Indices of image tokens, (image, n).
        layers: The decoder's layers, 0-based.

    Returns:
        A tensor (layer, image, n, hidden) in the model's precision, before the final norm.

    Raises UsageError where a token is none of its image's, and of a model with DeepStack.
    """
    check_deepstack(model.info)
    device = model.checkpoint.device
    indices = torch.from_numpy(np.ascontiguousarray(tokens)).long().to(device)
    _check_tokens(indices, samples)
    # The pass runs over all tokens, of which the chosen ones are picked at the end.
    positions = samples[0].image_start + indices[:, :, None]
    before = BeforeDecoder(vectors.to(device, model.checkpoint.dtype), {})
    with layer_outputs(model.language_model.layers, layers, stop=True) as outputs:
        model.run_prompts(samples, before, model.new_cache())
    states = torch.stack([outputs[layer].to(device) for layer in layers])
    return states.gather(2, positions.expand(len(layers), -1, -1, states.shape[-1]))


def check_deepstack(model: ModelInfo) -> None:
    """Raise UsageError of a model whose decoder takes more of an image than enters its first
    layer.
    """
    if adds_features(model.family):
        raise UsageError(
            f"hidden: expected a decoder whose input is all it takes of an image, found one with "
            f"DeepStack, {model.name}: extract its pictures with --kinds hidden"
        )


def _check_tokens(tokens: torch.Tensor, samples: Sequence[Sample]) -> None:
    """Raise UsageError where a token is none of its image's."""
    count = samples[0].n_tokens
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < count:
        raise UsageError(
            f"image {samples[0].id}: expected tokens from 0 to {count - 1}, found "
            f"{int(tokens.min())} to {int(tokens.max())}"
        )


def _positions(
    model: Continuation, samples: Sequence[Sample], token_positions: torch.Tensor
) -> torch.Tensor:
    """Return the rotary positions of prompt tokens (image, n); with axes where the family has."""
    positions = model.positions(samples)
    if positions is None:
        return token_positions
    # One set of positions for each axis, with the same tokens picked from all.
    return positions.gather(-1, token_positions.expand(len(positions), -1, -1))


def _masks(
    model: Continuation, samples: Sequence[Sample], queries: torch.Tensor, n_keys: int
) -> Any:
    """Return what each image token (image, n) may see of the prompt, (image, 1, n, key).

    A decoder with sliding windows takes a mask for each kind of layer.
    """
    config = model.language_model.config
    keys = torch.arange(n_keys, device=queries.device)
    # Queries are any tokens of the image, so that masks go by positions, not by order.
    distance = queries[:, None, :, None] - keys
    causal = distance >= 0
    mutual = causal
    if model.attends_both_ways:
        starts = queries.new_tensor([[sample.image_start] for sample in samples])
        mutual = causal | (keys >= starts)[:, None, None]  # the prompt ends with the image
    visible = mutual if model.both_ways_in_full_layers else causal
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    windowed = mutual if window is None else mutual & (distance < window)
    if len(kinds) <= 1:
        # All layers are of one kind; a decoder that names none slides where it has a window.
        slides = kinds == {"sliding_attention"} or not kinds
        return _as_mask(model, windowed if slides else visible)
    masks = {"full_attention": visible, "sliding_attention": windowed}
    return {kind: _as_mask(model, masks[kind]) for kind in sorted(kinds)}


def _as_mask(model: Continuation, visible: torch.Tensor) -> torch.Tensor:
    """Return a mask as the attention backend takes it: eager attention adds it to its logits."""
    if model.language_model.config._attn_implementation != "eager":
        return visible
    dtype = model.checkpoint.dtype
    zeros = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return zeros.masked_fill(~visible, torch.finfo(dtype).min)
