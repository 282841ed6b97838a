"""Idefics3 and SmolVLM: tiles of one size with marks before them, line breaks after rows of tiles,
the whole picture last.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from transformers import (
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

from kvtool.models.families.tile_blocks import block_spans
from kvtool.models.processors import ProcessedImage
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import View

_TILE = re.compile(r"<row_(\d+)_col_(\d+)>")


class Idefics3(WholeModel):
    """Checkpoints of model_type idefics3."""

    family = "idefics3"
    network: ClassVar[Any] = Idefics3ForConditionalGeneration
    processor_class = Idefics3Processor
    image_processor_class: Any = Idefics3ImageProcessorPil
    lists_features = True

    def options(self, view: View) -> dict[str, Any]:
        """See WholeModel.options: the full view cuts tiles, the base view is one."""
        return {"do_image_splitting": view == "full"}

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        # The processor's own marks say which tiles there are; a picture without marks is one block.
        marks = [(int(row), int(col)) for row, col in _TILE.findall(processed.text)]
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size
        starts = processed.runs(self.config.image_token_id)
        tiles = marks[-1] if marks else (0, 0)
        # Tokens lie between marks, at the runs' starts; the tower's patches follow each other.
        tokens = block_spans(image_wh_px, tiles, side // self.config.scale_factor, starts)
        blocks = [index * side * side for index in range(len(starts))]
        return tokens, block_spans(image_wh_px, tiles, side, blocks)


class SmolVLM(Idefics3):
    """Checkpoints of model_type smolvlm, whose own processor needs num2words for videos alone."""

    family = "smolvlm"
    network = SmolVLMForConditionalGeneration
    image_processor_class = SmolVLMImageProcessorPil
