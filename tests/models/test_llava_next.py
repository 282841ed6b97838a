from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from kvtool.models import load_model
from kvtool.models.base import LanguageModel, Model
from kvtool.types import View
from tests.contracts.model_contract import Array, DecoderContract
from tests.models.own import own_processor
from tests.models.test_llava_onevision import llava_vision
from tests.support import tiny


class TestLlavaNextLlama(DecoderContract):
    build = "llava_next"
    own_class: ClassVar[Any] = LlavaNextForConditionalGeneration
    views = ("base", "full")
    image_token = marker = "<image>"

    def own_processor(self, folder: Path) -> Any:
        options = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return own_processor(
            LlavaNextProcessor, LlavaNextImageProcessorPil, folder, patch_size=8, **options
        )

    def own_vision(
        self, own: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = super().own_inputs(own, folder, image, "full")["pixel_values"][0].to(own.dtype)
        return llava_vision(
            own, pixels if view == "full" else pixels[:1], layer, (2, 2)
        )  # 70 x 45 px

    def own_features(self, own: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if "inputs_embeds" not in inputs:
            return super().own_features(own, inputs)
        features: torch.Tensor = inputs["inputs_embeds"][0, self.start : self.start + 16]
        return features

    def own_inputs(
        self,
        own: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = "what is there",
    ) -> dict[str, Any]:
        """transformers makes tiles of every image: the base view alone is its features' head and one newline."""
        inputs = super().own_inputs(own, folder, image, view, prefix, question)
        if view == "full":
            return inputs
        ids = inputs.pop("input_ids")
        with torch.inference_mode():
            features = self.own_features(own, inputs)[:16]
            spots = (ids[0] == own.config.image_token_id).nonzero()[:, 0]
            self.start = int(spots[0])
            words = own.get_input_embeddings()(ids[0])
            newline = own.model.image_newline[None]
            prompt = [words[: self.start], features, newline, words[int(spots[-1]) + 1 :]]
        return {"inputs_embeds": torch.cat(prompt)[None]}

    def test_base_view_is_the_head_of_transformers_whole_prompt(
        self, model: Model, own: Any, folder: Path
    ) -> None:
        prefix = self.lane_filling_prefix(model, tiny.noise(70, 45), "base")
        prepared = model.prepare(tiny.noise(70, 45), id="a", index=0, prefix=prefix)
        captured = model.capture([prepared], model.request(("value",), None))
        _, values, _ = self.own_pass(own, folder, tiny.noise(70, 45), "full", prefix)
        start = prepared.sample.image_start
        for layer in range(3):
            expected = values[layer][:, start : start + 16]
            np.testing.assert_allclose(
                captured.arrays["value"][0][layer], expected, rtol=0, atol=3e-6
            )


class TestLlavaNextMistral(TestLlavaNextLlama):
    build = "llava_next_mistral"


@pytest.mark.parametrize("window", [8, 64])
def test_sliding_windows_go_on_from_a_whole_cache(tmp_path: Path, window: int) -> None:
    tiny.llava_next(tmp_path, "mistral", sliding_window=window)
    model = load_model(str(tmp_path), dtype="float32")
    assert isinstance(model, LanguageModel)
    prepared = model.prepare(tiny.noise(70, 45), id="a", index=0, view="full")
    captured = model.capture([prepared], model.request(None, None))
    contract = TestLlavaNextMistral()
    cache = model.restore([prepared.sample], [contract.stored(captured)])
    found = model.logits(cache, [prepared.sample], model.question("what is there"))[0].numpy()
    own_class: Any = LlavaNextForConditionalGeneration
    own = own_class.from_pretrained(tmp_path, dtype=torch.float32).eval()
    with torch.inference_mode():
        whole = (
            own(**contract.own_inputs(own, tmp_path, tiny.noise(70, 45), "full")).logits[0].numpy()
        )
    np.testing.assert_allclose(found, whole[-len(found) :], rtol=0, atol=1e-4)
