from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.errors import ImageError
from kvtool.models.base import LanguageModel, Model
from tests.contracts.arrays import to_array
from tests.contracts.families.qwen_vl import Qwen2VL, Qwen25VL
from tests.support import tiny


@pytest.mark.slow
class TestQwen2VL(Qwen2VL):
    def test_positions_equal_transformers(self, model: Any, reference: Any, folder: Path) -> None:
        for size in ((70, 45), (45, 70), (300, 20)):
            sample = model.prepare(tiny.noise(*size), id="a", index=0, prefix="red cat").sample
            inputs = self.own_inputs(reference, folder, tiny.noise(*size), "base", "red cat")
            positions, _ = reference.model.get_rope_index(
                inputs["input_ids"],
                inputs["mm_token_type_ids"],
                image_grid_thw=inputs["image_grid_thw"],
            )
            end = sample.image_start + sample.n_tokens
            assert torch.equal(model.positions([sample]), positions[:, :, :end])
            assert positions[0, 0, end] == sample.next_position

    def test_images_of_one_length_and_two_shapes_share_a_cache(self, model: LanguageModel) -> None:
        samples, arrays, expected = [], [], []
        for size in ((70, 45), (45, 70)):
            sample, captured = self.capture(model, tiny.noise(*size), keys="pre-rope")
            samples.append(sample)
            arrays.append(self.stored(captured))
            cache = model.restore([sample], [arrays[-1]], keys="pre-rope")
            expected.append(model.logits(cache, [sample], model.question("red"))[0].numpy())
        assert samples[0].spans[0].grid == samples[1].spans[0].grid[::-1]
        cache = model.restore(samples, arrays, keys="pre-rope")
        together = model.logits(cache, samples, model.question("red")).numpy()
        np.testing.assert_allclose(together, np.stack(expected), rtol=0, atol=1e-4)

    def test_merged_vision_tokens_are_the_projected_ones(
        self, model: Model, reference: Any
    ) -> None:
        sample, captured = self.capture(model, tiny.noise(70, 45))
        rows, cols = sample.vision_spans[0].grid
        vision = captured.arrays["vision"][0][0, 0].reshape(rows // 2, 2, cols // 2, 2, -1)
        merged = reference.model.visual.merger(
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


@pytest.mark.slow
class TestQwen25VL(Qwen25VL, TestQwen2VL):
    """The same with windows in the tower."""
