from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from kvtool.errors import ImageError
from kvtool.models.base import LanguageModel, Model
from kvtool.types import Sample, View
from tests.contracts.model_contract import Array, DecoderContract, to_array
from tests.models.own import own_processor
from tests.support import tiny


class TestQwen2VL(DecoderContract):
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
        self, own: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        """Put back row by row, patch by patch, from the place the tower itself says each patch has."""
        inputs = self.own_inputs(own, folder, image, view)
        with torch.inference_mode():
            states = own.model.visual(
                inputs["pixel_values"].to(own.dtype),
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

    def test_positions_equal_transformers(self, model: Any, own: Any, folder: Path) -> None:
        for size in ((70, 45), (45, 70), (300, 20)):
            sample = model.prepare(tiny.noise(*size), id="a", index=0, prefix="red cat").sample
            inputs = self.own_inputs(own, folder, tiny.noise(*size), "base", "red cat")
            positions, _ = own.model.get_rope_index(
                inputs["input_ids"],
                inputs["mm_token_type_ids"],
                image_grid_thw=inputs["image_grid_thw"],
            )
            end = sample.image_start + sample.n_tokens
            assert torch.equal(model.positions([sample]), positions[:, :, :end])
            assert positions[0, 0, end] == sample.next_position

    def test_images_of_one_length_and_two_shapes_share_a_cache(self, model: LanguageModel) -> None:
        samples, arrays, alone = [], [], []
        for size in ((70, 45), (45, 70)):
            sample, captured = self.capture(model, tiny.noise(*size), keys="pre-rope")
            samples.append(sample)
            arrays.append(self.stored(captured))
            cache = model.restore([sample], [arrays[-1]], keys="pre-rope")
            alone.append(model.logits(cache, [sample], model.question("red"))[0].numpy())
        assert samples[0].spans[0].grid == samples[1].spans[0].grid[::-1]
        cache = model.restore(samples, arrays, keys="pre-rope")
        together = model.logits(cache, samples, model.question("red")).numpy()
        np.testing.assert_allclose(together, np.stack(alone), rtol=0, atol=1e-4)

    def test_merged_vision_tokens_are_the_projected_ones(self, model: Model, own: Any) -> None:
        sample, captured = self.capture(model, tiny.noise(70, 45))
        rows, cols = sample.vision_spans[0].grid
        vision = captured.arrays["vision"][0][0, 0].reshape(rows // 2, 2, cols // 2, 2, -1)
        merged = own.model.visual.merger(
            torch.tensor(vision.swapaxes(1, 2).reshape(rows * cols, -1))
        )
        np.testing.assert_allclose(
            captured.arrays["projected"][0][0, 0], to_array(merged), rtol=0, atol=1e-5
        )

    def test_too_long_images_are_refused_by_name(self, model: Model) -> None:
        with pytest.raises(
            ImageError, match=r"image long\.png: .* at most 200, found 20000 x 1 px; crop it"
        ):
            model.prepare(tiny.noise(20_000, 1), id="long.png", index=0)

    def test_images_stay_within_the_checkpoints_pixel_limits(self, model: Model) -> None:
        for size, low, high in (((2000, 1500), 60, 80), ((4, 4), 16, 24)):
            sample = model.prepare(tiny.noise(*size), id="a", index=0).sample
            assert low <= sample.n_tokens <= high


class TestQwen25VL(TestQwen2VL):
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
