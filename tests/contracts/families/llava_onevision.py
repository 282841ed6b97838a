"""LLaVA-OneVision as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_processor
from tests.contracts.model_contract import DecoderContract


def llava_vision(reference: Any, pixels: torch.Tensor, layer: int, tiles: tuple[int, int]) -> Array:
    """A tower layer's output by transformers: base patches, then the tiles' put together row by
    row.
    """
    with torch.inference_mode():
        states = reference.model.vision_tower(pixels, output_hidden_states=True).hidden_states[
            layer + 1
        ][:, -16:]
    rows = [states[0]]
    if len(states) == 1:
        return to_array(states[0])
    for tile_row in range(tiles[0]):
        for row in range(4):
            for tile_col in range(tiles[1]):
                tile = states[1 + tile_row * tiles[1] + tile_col]
                rows.append(tile[row * 4 : row * 4 + 4])
    return to_array(torch.cat(rows))


class LlavaOnevision(DecoderContract):
    build = "llava_onevision"
    own_class: ClassVar[Any] = LlavaOnevisionForConditionalGeneration
    views = ("base", "full")
    image_token = marker = "<image>"

    def own_processor(self, folder: Path) -> Any:
        options = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
        return own_processor(
            LlavaOnevisionProcessor,
            LlavaOnevisionImageProcessorPil,
            folder,
            video_processor=None,
            vision_aspect_ratio="anyres_max_3",
            **options,
        )

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = self.own_inputs(reference, folder, image, view)["pixel_values"][0].to(
            reference.dtype
        )
        return llava_vision(reference, pixels, layer, (2, 3))  # 70 x 45 px

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = "what is there",
    ) -> dict[str, Any]:
        """The base view alone is what transformers makes of an image among several: base tokens and
        one newline.
        """
        inputs = super().own_inputs(reference, folder, image, view, prefix, question)
        if view == "base":
            ids = inputs["input_ids"][0]
            first = int((ids == reference.config.image_token_id).nonzero()[0])
            count = int((ids == reference.config.image_token_id).sum())
            inputs["input_ids"] = torch.cat([ids[: first + 17], ids[first + count :]])[None]
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            inputs["pixel_values"] = inputs["pixel_values"][:, :1]
            inputs["batch_num_images"] = torch.tensor([2])
        return inputs
