"""InternVL as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import GotOcr2ImageProcessorPil, InternVLForConditionalGeneration
from transformers.models.internvl.processing_internvl import InternVLProcessor

from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_processor
from tests.contracts.whole_contract import WholeContract


class InternVL(WholeContract):
    build = "internvl"
    own_class: ClassVar[Any] = InternVLForConditionalGeneration
    views = ("base", "full")
    image_token = marker = "<IMG_CONTEXT>"

    def own_processor(self, folder: Path) -> Any:
        options = {"image_seq_length": 16, "video_processor": None}
        return own_processor(InternVLProcessor, GotOcr2ImageProcessorPil, folder, **options)

    def own_options(self, view: View) -> dict[str, Any]:
        return {"crop_to_patches": view == "full"}

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = self.own_inputs(reference, folder, image, view)["pixel_values"]
        with torch.inference_mode():
            states = reference.model.vision_tower(
                pixels.to(reference.dtype), output_hidden_states=True
            ).hidden_states[layer + 1]
        return to_array(states[:, 1:].flatten(0, 1))
