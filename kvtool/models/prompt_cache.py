"""The cache of a prompt up to the last image token: computed, or made of what a run stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from kvtool.models.base import Array, BeforeDecoder, Prepared
from kvtool.models.cache import full_cache, new_cache
from kvtool.models.device import from_numpy, to_device
from kvtool.models.placement import beside_layers
from kvtool.models.stored_cache import check_projected, check_stored, stored_layers
from kvtool.types import KeyPosition, ModelInfo, Sample

if TYPE_CHECKING:
    from kvtool.models.loading import Checkpoint
    from kvtool.models.prompts import Prompt


class PromptCache:
    """The part of a decoder family that makes caches."""

    checkpoint: Checkpoint
    config: Any
    net: Any
    language_model: Any
    prompt: Prompt
    info: ModelInfo

    def before_decoder(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> BeforeDecoder:
        """See DecoderModel.before_decoder."""
        raise NotImplementedError

    def prepare_stored(
        self, sample: Sample, arrays: Mapping[str, Array], prefix: str = ""
    ) -> Prepared:
        """See LanguageModel.prepare_stored."""
        raise NotImplementedError

    def positions(self, samples: Sequence[Sample]) -> torch.Tensor | None:  # noqa: ARG002
        """Rotary positions of prefix and image tokens, (axis, image, token); None where they are
        just counted.
        """
        return None

    def run_prompts(
        self,
        samples: Sequence[Sample],
        before: BeforeDecoder,
        cache: Any,
        following: Sequence[int] = (),
    ) -> torch.Tensor:
        """See Continuation.run_prompts."""
        raise NotImplementedError

    def new_cache(self) -> Any:
        """Return an empty cache that the decoder can go on from at any token."""
        return new_cache(self.language_model.config, self.info.geometry.recurrent)

    @torch.inference_mode()
    def prefill(self, batch: Sequence[Prepared]) -> Any:
        """See LanguageModel.prefill."""
        # Nothing of the tower's layers is asked for: only what enters the decoder.
        before = self.before_decoder(batch, (), project=True)
        cache = self.new_cache()
        self.run_prompts([item.sample for item in batch], before, cache)
        return cache

    @torch.inference_mode()
    def restore(
        self,
        samples: Sequence[Sample],
        arrays: Sequence[Mapping[str, Array]],
        keys: KeyPosition = "post-rope",
    ) -> Any:
        """See LanguageModel.restore."""
        geometry = self.info.geometry
        if geometry.recurrent:
            # Their states are not stored: the prompt runs again, from what enters the decoder.
            check_projected(arrays)
            return self.prefill(
                [
                    self.prepare_stored(sample, {"projected": item["projected"]}, sample.prefix)
                    for sample, item in zip(samples, arrays, strict=True)
                ]
            )
        check_stored(geometry, arrays)
        key, value = (
            stored_layers(name, geometry, arrays, self._stacked) for name in ("key", "value")
        )
        # Stored before their rotation, keys are turned to the places that they have in the prompt.
        if keys == "pre-rope":
            key = self.rotated(samples, key)
        layers = self.language_model.layers
        return full_cache(beside_layers(layers, key), beside_layers(layers, value))

    def _stacked(self, arrays: Sequence[Array]) -> torch.Tensor:
        """Return (image, layer, kv_head, token, dim) on the device, in the model's precision."""
        return to_device(
            [from_numpy(array, self.checkpoint.dtype) for array in arrays], self.checkpoint.device
        )

    def rotated(
        self, samples: Sequence[Sample], keys: Mapping[int, torch.Tensor]
    ) -> dict[int, torch.Tensor]:
        """Keys by layer, (image, kv_head, token, dim), after the rotary embedding at their prompt
        positions.
        """
        # Any layer tells the precision and the device that angles are made in.
        first = next(iter(keys.values()))
        positions = self.positions(samples)
        if positions is None:
            positions = torch.arange(first.shape[2], device=first.device).expand(len(samples), -1)
        rotary = self.language_model.rotary_emb
        # Some decoders turn keys at other rates in layers of a sliding window.
        has_kinds = hasattr(rotary, "layer_types")
        types = self.language_model.config.layer_types if has_kinds else None
        # Layers that turn at one rate share their angles.
        kinds = {layer: types[layer] if types else None for layer in keys}
        angles = {
            kind: rotary(first, positions, kind) if has_kinds else rotary(first, positions)
            for kind in set(kinds.values())
        }
        return {layer: self.rotate(states, *angles[kinds[layer]]) for layer, states in keys.items()}

    def rotate(
        self, keys: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        """Return keys (image, kv_head, token, dim) after the rotary embedding of these angles."""
        rotated: torch.Tensor = apply_rotary_pos_emb(keys, keys, cosines, sines)[1]
        return rotated
