"""Gemma 4: a tower at the picture's own aspect ratio, 3 x 3 patches averaged to a token, and a
decoder whose layers differ: those of full attention have other heads than those of a sliding
window, and the last ones may read the keys and values of earlier ones.

One view: the image at its own aspect ratio, both sides multiples of 48 px.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import Gemma4ForConditionalGeneration, Gemma4ImageProcessorPil
from transformers.models.gemma4.modeling_gemma4 import apply_rotary_pos_emb
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from kvtool.models.processors import ProcessedImage
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, Sample


class Gemma4(WholeModel):
    """Checkpoints of model_type gemma4."""

    family = "gemma4"
    network: ClassVar[Any] = Gemma4ForConditionalGeneration
    processor_class = Gemma4Processor
    image_processor_class = Gemma4ImageProcessorPil
    lists_features = True
    exact_pixels = True
    both_ways_in_full_layers = False

    @property
    def attends_both_ways(self) -> bool:  # type: ignore[override]
        """Whether tokens of an image see those that follow them: the smaller models' do not."""
        return bool(self.text_config().use_bidirectional_attention == "vision")

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans: the processor numbers the patches, and pads them."""
        # Padding has no place in the grid: the largest column and row say how many there are.
        cols, rows = (int(n) + 1 for n in processed.inputs["image_position_ids"][0].amax(dim=0))
        pooled = self.config.vision_config.pooling_kernel_size
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        tokens = GridSpan("base", 0, (rows // pooled, cols // pooled), cols // pooled, cover)
        return (tokens,), (GridSpan("base", 0, (rows, cols), cols, cover),)

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: padding stands behind the patches."""
        return states[:, : samples[0].n_vision_tokens]

    def beside(self, ids: torch.Tensor) -> dict[str, Any]:
        """See Continuation.beside: what enters each layer of a token's own embedding there."""
        text = self.text_config()
        if not text.hidden_size_per_layer_input:
            return {}
        # To these embeddings an image's tokens are padding.
        words = ids.masked_fill(ids == self.config.image_token_id, text.pad_token_id)
        return {"per_layer_inputs": self.language_model.get_per_layer_inputs(words)}

    def rotate(
        self, keys: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        """See PromptCache.rotate."""
        rotated: torch.Tensor = apply_rotary_pos_emb(keys, cosines, sines)
        return rotated
