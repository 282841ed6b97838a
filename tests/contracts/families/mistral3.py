"""Mistral 3 as transformers runs it, for the contract of decoders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
import torch
from PIL import Image
from transformers import Mistral3ForConditionalGeneration, PixtralImageProcessorPil
from transformers.models.pixtral import image_processing_pil_pixtral

from kvtool.errors import ImageError
from kvtool.models.base import Model
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.encoder_contract import SIZES
from tests.contracts.families.processors import own_processor
from tests.contracts.whole_contract import WholeContract
from tests.support.tiny import noise

TORCHVISION = "transformers.models.pixtral.image_processing_pixtral"
"""The module by way of which transformers' processor asks for torchvision, for one function that
its PIL module has too.
"""


def pixtral_processor() -> Any:
    """transformers' processor, on the PIL module."""
    with patch.dict(sys.modules, {TORCHVISION: image_processing_pil_pixtral}):
        from transformers.models.pixtral.processing_pixtral import PixtralProcessor

        return PixtralProcessor


class Mistral3(WholeContract):
    build = "mistral3"
    own_class: ClassVar[Any] = Mistral3ForConditionalGeneration
    image_token = marker = "[IMG]"
    embeds_between = 1
    blanked_wh_px = (152, 104)  # whole patches: a cell of a few pixels is no half of a neighbor
    sizes = tuple(size for size in SIZES if size != (1, 1))
    extremes = ((90, 1), (20_000, 120))

    def test_a_picture_of_one_token_is_refused(self, model: Model) -> None:
        """transformers' own forward fails over one."""
        with pytest.raises(ImageError, match=r"image dot: expected at least 2 tokens, found 1"):
            model.prepare(noise(3, 2), id="dot", index=0)

    def own_processor(self, folder: Path) -> Any:
        sizes = {"patch_size": 4, "spatial_merge_size": 2}
        return own_processor(pixtral_processor(), PixtralImageProcessorPil, folder, **sizes)

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        inputs = self.own_inputs(reference, folder, image, view)
        with torch.inference_mode():
            states = reference.model.vision_tower(
                inputs["pixel_values"].to(reference.dtype),
                image_sizes=inputs["image_sizes"],
                output_hidden_states=True,
            ).hidden_states
        return to_array(states[layer + 1][0])
