"""Gemma 3 as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor

from kvtool.types import View
from tests.contracts.arrays import Array, rotated_by_hand, to_array
from tests.contracts.families.processors import own_pixels, own_processor
from tests.contracts.whole_contract import WholeContract


class Gemma3(WholeContract):
    build = "gemma3"
    own_class: ClassVar[Any] = Gemma3ForConditionalGeneration
    image_token = marker = "<start_of_image>"

    def own_processor(self, folder: Path) -> Any:
        return own_processor(Gemma3Processor, Gemma3ImageProcessorPil, folder, image_seq_length=16)

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        pixels = own_pixels(folder, image).to(reference.dtype)
        with torch.inference_mode():
            states = reference.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        return to_array(states[layer + 1][0])

    def rotated(
        self, reference: Any, keys: Array, positions: Array, layers: Sequence[int]
    ) -> Array:
        """Layers of a sliding window turn at a base of their own."""
        config = reference.config.text_config
        return np.stack(
            [
                rotated_by_hand(layer, positions, config.rope_parameters[kind]["rope_theta"], None)
                for layer, kind in zip(keys, [config.layer_types[n] for n in layers], strict=True)
            ]
        )
