"""Gemma 3: a SigLIP tower at 896 px, 64 x 64 patches averaged to 16 x 16 tokens, and a decoder of
sliding and full layers in which the tokens of an image see each other both ways.

One view: the whole image squeezed into a square; no pan and scan.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, ClassVar

from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

from kvtool.models.processors import ProcessedImage
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, View


class Gemma3(WholeModel):
    """Checkpoints of model_type gemma3."""

    family = "gemma3"
    network: ClassVar[Any] = Gemma3ForConditionalGeneration
    processor_class = Gemma3Processor
    image_processor_class = Gemma3ImageProcessorPil
    attends_both_ways = True

    def options(self, view: View) -> dict[str, Any]:  # noqa: ARG002  there is one
        """See WholeModel.options."""
        return {"do_pan_and_scan": False}

    def spans(
        self,
        image_wh_px: tuple[int, int],
        processed: ProcessedImage,  # noqa: ARG002  every picture has as many tokens
    ) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        vision = self.config.vision_config
        sides = isqrt(self.config.mm_tokens_per_image), vision.image_size // vision.patch_size
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        tokens, patches = (GridSpan("base", 0, (side, side), side, cover) for side in sides)
        return (tokens,), (patches,)
