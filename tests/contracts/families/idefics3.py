"""Idefics3 and SmolVLM as transformers runs them, for the contract of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import (
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
)
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_processor
from tests.contracts.whole_contract import WholeContract
from tests.support.tiny import noise


class Idefics3(WholeContract):
    build = "idefics3"
    own_class: ClassVar[Any] = Idefics3ForConditionalGeneration
    image_processor: ClassVar[Any] = Idefics3ImageProcessorPil
    views = ("base", "full")
    image_token = marker = "<image>"

    def own_processor(self, folder: Path) -> Any:
        return own_processor(Idefics3Processor, self.image_processor, folder, image_seq_len=16)

    def own_options(self, view: View) -> dict[str, Any]:
        return {"do_image_splitting": view == "full"}

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = self.own_inputs(reference, folder, image, view)["pixel_values"][0]
        with torch.inference_mode():
            states = reference.model.vision_model(
                pixels.to(reference.dtype), output_hidden_states=True
            ).hidden_states[layer + 1]
        return to_array(states.flatten(0, 1))


class SmolVLM(Idefics3):
    """Its own processor needs a package that reads numbers of videos aloud."""

    build = "smolvlm"
    own_class: ClassVar[Any] = SmolVLMForConditionalGeneration
    image_processor = SmolVLMImageProcessorPil

    def test_what_stands_for_an_image_is_what_its_own_processor_writes(self, model: Any) -> None:
        for view, tiles in (("base", (0, 0)), ("full", (2, 2))):
            marks = ("<fake_token_around_image>", "<image>", "<global-img>")
            write: Any = get_image_prompt_string
            expected = write(*tiles, 16, *marks)
            assert model.processed(noise(70, 45), view).text == expected
