"""Gemma 4 as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from transformers import Gemma4ForConditionalGeneration, Gemma4ImageProcessorPil
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

from kvtool.models.cache import watched
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_processor
from tests.contracts.whole_contract import WholeContract


class Gemma4(WholeContract):
    build = "gemma4"
    own_class: ClassVar[Any] = Gemma4ForConditionalGeneration
    image_token = marker = "<|image|>"
    shapes = ((2, 8), (1, 16), (0, 0), (0, 0))
    two_layers = (0, 1)

    def own_processor(self, folder: Path) -> Any:
        return own_processor(
            Gemma4Processor,
            Gemma4ImageProcessorPil,
            folder,
            feature_extractor=None,
            video_processor=None,
        )

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        inputs = self.own_inputs(reference, folder, image, view)
        position_ids = inputs["image_position_ids"]
        tower = reference.model.vision_tower
        outputs: list[torch.Tensor] = []
        # Its own hidden states end with the pooled ones.
        with torch.inference_mode(), watched({tower.encoder.layers[layer]: outputs.append}):
            tower(inputs["pixel_values"], position_ids)
        is_patch = (position_ids[0] != -1).all(dim=-1)
        return to_array(outputs[0][0][is_patch])

    def rotated(
        self, reference: Any, keys: Array, positions: Array, layers: Sequence[int]
    ) -> Array:
        """Layers of full attention turn a quarter of their dimensions."""
        (layer,) = layers
        config = reference.config.text_config
        rope = config.rope_parameters[config.layer_types[layer]]
        half = keys.shape[-1] // 2
        frequencies = rope["rope_theta"] ** (-np.arange(half) / half)
        turning = int(rope.get("partial_rotary_factor", 1.0) * half)
        frequencies[turning:] = 0
        angles = positions[0][:, None] * frequencies
        first, second = keys[..., :half], keys[..., half:]
        cos, sin = np.cos(angles), np.sin(angles)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    # Their arrays are of one shape; test_text_values_are_those_within_... compares both.
    test_text_values_alone_equal_each_text_alone = None  # type: ignore[assignment]
    test_several_patterns_are_averaged = None  # type: ignore[assignment]
