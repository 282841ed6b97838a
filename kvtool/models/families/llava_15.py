"""LLaVA 1.5: a CLIP tower at 336 px, a projector, a Llama decoder; 24 x 24 tokens.

One view: the middle of the picture, its shorter side resized to the tower's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration

from kvtool.errors import ModelError
from kvtool.models.cropping import cropped, patch_span, shown_rectangle
from kvtool.models.families.llava_next import VICUNA
from kvtool.models.loading import Checkpoint
from kvtool.models.processors import ProcessedImage, laid_out
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, View


class Llava15(WholeModel):
    """Checkpoints of model_type llava."""

    family = "llava"
    network: ClassVar[Any] = LlavaForConditionalGeneration
    image_processor_class = CLIPImageProcessorPil
    lists_features = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        # Looked at before the network is built, which is made for a CLIP tower.
        vision = checkpoint.config(self.network).vision_config
        if vision.model_type != "clip_vision_model":
            raise ModelError(
                f"model {checkpoint.snapshot.name}: expected a CLIP tower in a checkpoint of "
                f"model_type llava, found {vision.model_type}; take one of LLaVA 1.5"
            )
        super().__init__(checkpoint)

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return VICUNA

    def make_processor(self, image_processor: Any, tokenizer: Any) -> Any:
        """Return the image processor alone, which crops a long picture first."""
        self.tokenizer = tokenizer
        return image_processor

    def marker(self) -> str:
        """Return the token that stands for the image in a chat template, too."""
        return self.placeholder

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:  # noqa: ARG002
        """See WholeModel.processed. There is one view: base and full are the same."""
        pixels, _ = cropped(image, self.processor)
        span = self._patches(image.size, pixels)
        # A placeholder for each vector that the projector gives, the class token's among them.
        text = self.placeholder * (self._class_tokens() + span.grid[0] * span.grid[1])
        inputs = {"pixel_values": pixels[None]}
        return laid_out(self.tokenizer, text, self.placeholder, inputs)

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans: a token a patch."""
        patches = self._patches(image_wh_px, processed.inputs["pixel_values"][0])
        # Patches begin behind the class token where that is kept.
        return (replace(patches, start=self._class_tokens()),), (patches,)

    def _patches(self, image_wh_px: tuple[int, int], pixels: Any) -> GridSpan:
        shown_xyxy_px = shown_rectangle(image_wh_px, self.processor)
        return patch_span(pixels, shown_xyxy_px, self.config.vision_config.patch_size)

    def _class_tokens(self) -> int:
        """Return how many tokens stand before the patches': the class token, where it is kept."""
        return int(self.config.vision_feature_select_strategy == "full")
