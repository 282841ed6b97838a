"""Qwen2-VL and Qwen2.5-VL as transformers runs them, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from kvtool.types import Sample, View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_processor
from tests.contracts.model_contract import DecoderContract


class Qwen2VL(DecoderContract):
    build = "qwen2_vl"
    own_class: ClassVar[Any] = Qwen2VLForConditionalGeneration
    processor_class: ClassVar[Any] = Qwen2VLProcessor
    image_token = "<|image_pad|>"
    marker = "<|vision_start|><|image_pad|>"

    def own_processor(self, folder: Path) -> Any:
        return own_processor(
            self.processor_class, Qwen2VLImageProcessorPil, folder, video_processor=None
        )

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        """Put back row by row, patch by patch, from the place the tower itself says each
        patch has.
        """
        inputs = self.own_inputs(reference, folder, image, view)
        with torch.inference_mode():
            states = reference.model.visual(
                inputs["pixel_values"].to(reference.dtype),
                grid_thw=inputs["image_grid_thw"],
                output_hidden_states=True,
            ).hidden_states[layer + 1]
        rows, cols = inputs["image_grid_thw"][0, 1:].tolist()
        grid = torch.empty(rows, cols, states.shape[-1], dtype=states.dtype)
        for state, (row, col) in zip(states, self.places(rows, cols), strict=True):
            grid[row, col] = state
        return to_array(grid.flatten(0, 1))

    def places(self, rows: int, cols: int) -> list[tuple[int, int]]:
        """(row, col) of each patch in the tower's order: two by two."""
        blocks = [(row, col) for row in range(0, rows, 2) for col in range(0, cols, 2)]
        return [(row + i, col + j) for row, col in blocks for i in (0, 1) for j in (0, 1)]

    def positions_by_hand(self, sample: Sample) -> Array:
        rows, cols = sample.spans[0].grid
        start = sample.image_start
        text = [(i, i, i) for i in range(start)]
        image = [(start, start + row, start + col) for row in range(rows) for col in range(cols)]
        return np.array(text + image).T


class Qwen25VL(Qwen2VL):
    build = "qwen2_5_vl"
    own_class: ClassVar[Any] = Qwen2_5_VLForConditionalGeneration
    processor_class = Qwen2_5_VLProcessor

    def places(self, rows: int, cols: int) -> list[tuple[int, int]]:
        """Windows of 16 px, 4 x 4 patches, one after the other; within them two by two."""
        windows = [(row, col) for row in range(0, rows, 4) for col in range(0, cols, 4)]
        blocks = [
            (row, col)
            for top, left in windows
            for row in range(top, min(top + 4, rows), 2)
            for col in range(left, min(left + 4, cols), 2)
        ]
        return [(row + i, col + j) for row, col in blocks for i in (0, 1) for j in (0, 1)]
