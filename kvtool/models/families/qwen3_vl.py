"""Qwen3-VL: as Qwen2.5-VL, with DeepStack: what three layers of the tower see is added to the
residual stream after the decoder's first three layers, at image tokens.

One view: the image at its own aspect ratio, resized to multiples of 32 px. Its patches (16 px) are
the tower's tokens; each 2 x 2 of them becomes one token of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from kvtool.models.families.qwen_grids import GridPositions, sized
from kvtool.models.processors import ProcessedImage, processed_image
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, Sample, View


class Qwen3VL(GridPositions, WholeModel):
    """Checkpoints of model_type qwen3_vl."""

    family = "qwen3_vl"
    network: ClassVar[Any] = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    image_processor_class = Qwen2VLImageProcessorPil
    opening = "<|vision_start|>"
    lists_features = True
    size_options: ClassVar[tuple[str, ...]] = ("image_size", "min_pixels", "max_pixels")

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:  # noqa: ARG002
        """See WholeModel.processed. There is one view: base and full are the same."""
        vision = self.config.vision_config
        picture, options = sized(
            image,
            self.checkpoint.settings.size,
            self.processor.image_processor,
            vision.patch_size * vision.spatial_merge_size,
        )
        return processed_image(self.processor, picture, self.placeholder, **options)

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        rows, cols = (int(n) for n in processed.inputs["image_grid_thw"][0, 1:])
        merge = self.config.vision_config.spatial_merge_size
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        tokens = GridSpan("base", 0, (rows // merge, cols // merge), cols // merge, cover)
        return (tokens,), (GridSpan("base", 0, (rows, cols), cols, cover),)

    def advance(self, spans: Spans) -> int:
        """See WholeModel.advance: by the longer side of the grid."""
        return max(spans[0].grid)

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: the tower's come in squares of those that share a token."""
        merge = self.config.vision_config.spatial_merge_size
        rows, cols = samples[0].spans[0].grid
        squares = states.reshape(len(samples), rows, cols, merge, merge, -1)
        return squares.transpose(2, 3).flatten(1, 4)

    def features_output(
        self,
        features: Sequence[torch.Tensor],
        added: Sequence[tuple[torch.Tensor, ...]],
    ) -> Any:
        """See WholeModel.features_output."""
        if not added:
            return super().features_output(features, added)
        output: Any = BaseModelOutputWithDeepstackFeatures  # transformers types one image's
        return output(
            pooler_output=tuple(features), deepstack_features=[list(layer) for layer in added]
        )
