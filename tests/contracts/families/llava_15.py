"""LLaVA 1.5 as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration
from transformers.models.llava.processing_llava import LlavaProcessor

from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_pixels, own_processor
from tests.contracts.whole_contract import WholeContract


class Llava15(WholeContract):
    build = "llava_15"
    own_class: ClassVar[Any] = LlavaForConditionalGeneration
    image_token = marker = "<image>"

    def own_processor(self, folder: Path) -> Any:
        options = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return own_processor(LlavaProcessor, CLIPImageProcessorPil, folder, patch_size=8, **options)

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        pixels = own_pixels(folder, image).to(reference.dtype)
        with torch.inference_mode():
            states = reference.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        return to_array(states[layer + 1][0, 1:])
