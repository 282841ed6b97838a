"""InternVL 3 and 3.5 in transformers' own layout (-hf): tiles of 448 px, 16 x 16 tokens each, the
whole picture last.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import GotOcr2ImageProcessorPil, InternVLForConditionalGeneration
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.internvl.processing_internvl import InternVLProcessor

from kvtool.models.families.tile_blocks import block_spans
from kvtool.models.processors import ProcessedImage
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import View


class InternVL(WholeModel):
    """Checkpoints of model_type internvl."""

    family = "internvl"
    network: ClassVar[Any] = InternVLForConditionalGeneration
    processor_class = InternVLProcessor
    image_processor_class = GotOcr2ImageProcessorPil

    def options(self, view: View) -> dict[str, Any]:
        """See WholeModel.options: the full view cuts tiles, the base view is one."""
        return {"crop_to_patches": view == "full"}

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        width, height = image_wh_px
        images = self.processor.image_processor
        n_blocks = len(processed.inputs["pixel_values"])
        tiles = (0, 0)
        if n_blocks > 1:
            # The processor says how many blocks there are; which shape they tile is computed as it
            # does.
            cols, rows = get_optimal_tiled_canvas(
                (height, width),
                (images.size.height, images.size.width),
                images.min_patches,
                images.max_patches,
            )
            tiles = (rows, cols)
        vision = self.config.vision_config
        side = vision.image_size[0] // vision.patch_size[0]
        # The projector merges patches into fewer tokens; both grids cover the same picture.
        sides = int(side * self.config.downsample_ratio), side
        tokens, patches = (
            block_spans(image_wh_px, tiles, n, [index * n * n for index in range(n_blocks)])
            for n in sides
        )
        return tokens, patches
