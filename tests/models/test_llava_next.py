from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlavaNextForConditionalGeneration

from kvtool.models import load_model
from kvtool.models.base import LanguageModel, Model
from tests.contracts.families.llava_next import LlavaNextLlama, LlavaNextMistral
from tests.support import tiny


class TestLlavaNextLlama(LlavaNextLlama):
    def test_base_view_is_the_head_of_transformers_whole_prompt(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        prefix = self.lane_filling_prefix(model, tiny.noise(70, 45), "base")
        prepared = model.prepare(tiny.noise(70, 45), id="a", index=0, prefix=prefix)
        captured = model.capture([prepared], model.request(("value",), None))
        _, values, _ = self.own_pass(reference, folder, tiny.noise(70, 45), "full", prefix)
        start = prepared.sample.image_start
        for layer in range(3):
            expected = values[layer][:, start : start + 16]
            np.testing.assert_allclose(
                captured.arrays["value"][0][layer], expected, rtol=0, atol=3e-6
            )


@pytest.mark.slow
class TestLlavaNextMistral(LlavaNextMistral, TestLlavaNextLlama):
    """The same with a Mistral decoder."""


@pytest.mark.slow
@pytest.mark.parametrize("window", [8, 64])
def test_sliding_windows_go_on_from_a_whole_cache(tmp_path: Path, window: int) -> None:
    tiny.llava_next(tmp_path, "mistral", sliding_window=window)
    model = load_model(str(tmp_path), dtype="float32")
    assert isinstance(model, LanguageModel)
    prepared = model.prepare(tiny.noise(70, 45), id="a", index=0, view="full")
    captured = model.capture([prepared], model.request(None, None))
    contract = LlavaNextMistral()
    cache = model.restore([prepared.sample], [contract.stored(captured)])
    logits = model.logits(cache, [prepared.sample], model.question("what is there"))[0].numpy()
    own_class: Any = LlavaNextForConditionalGeneration
    reference = own_class.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = (
            reference(**contract.own_inputs(reference, tmp_path, tiny.noise(70, 45), "full"))
            .logits[0]
            .numpy()
        )
    np.testing.assert_allclose(logits, expected[-len(logits) :], rtol=0, atol=1e-4)
