"""LLaVA-NeXT as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import LlavaNextForConditionalGeneration, LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from kvtool.types import View
from tests.contracts.arrays import Array
from tests.contracts.families.llava_onevision import llava_vision
from tests.contracts.families.processors import own_processor
from tests.contracts.model_contract import DecoderContract


class LlavaNextLlama(DecoderContract):
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
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = (
            super()
            .own_inputs(reference, folder, image, "full")["pixel_values"][0]
            .to(reference.dtype)
        )
        return llava_vision(
            reference, pixels if view == "full" else pixels[:1], layer, (2, 2)
        )  # 70 x 45 px

    def own_features(self, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if "inputs_embeds" not in inputs:
            return super().own_features(reference, inputs)
        features: torch.Tensor = inputs["inputs_embeds"][0, self.start : self.start + 16]
        return features

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = "what is there",
    ) -> dict[str, Any]:
        """transformers makes tiles of every image: the base view alone is its features' head and
        one newline.
        """
        inputs = super().own_inputs(reference, folder, image, view, prefix, question)
        if view == "full":
            return inputs
        ids = inputs.pop("input_ids")
        with torch.inference_mode():
            features = self.own_features(reference, inputs)[:16]
            spots = (ids[0] == reference.config.image_token_id).nonzero()[:, 0]
            self.start = int(spots[0])
            words = reference.get_input_embeddings()(ids[0])
            newline = reference.model.image_newline[None]
            prompt = [words[: self.start], features, newline, words[int(spots[-1]) + 1 :]]
        return {"inputs_embeds": torch.cat(prompt)[None]}


class LlavaNextMistral(LlavaNextLlama):
    build = "llava_next_mistral"
