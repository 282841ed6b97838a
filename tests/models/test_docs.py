"""The families that docs/adding-a-model.md adds as examples, run through the contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, DeiTModel, LlavaForConditionalGeneration
from transformers.models.llava.processing_llava import LlavaProcessor

from kvtool.models.families import FAMILIES
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_pixels, own_processor
from tests.contracts.model_contract import DecoderContract, EncoderContract
from tests.contracts.several_contract import SeveralContract

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"


@pytest.fixture(scope="module", autouse=True)
def examples() -> Iterator[None]:
    """The page's families, in the table as if they were the package's."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("examples")
    for block in blocks:
        if re.search(r"class \w+\((Encoder|DecoderModel)\)", block):
            exec(block, module.__dict__)
    sys.modules["examples"] = module
    added = {"deit": "examples:Deit", "llava": "examples:Llava15"}
    FAMILIES.table.update(added)
    yield
    for name in added:
        del FAMILIES.table[name]
    del sys.modules["examples"]


class TestDeit(EncoderContract):
    build = "deit"
    own_class: ClassVar[Any] = DeiTModel

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        with torch.inference_mode():
            outputs = reference(
                own_pixels(folder, image).to(reference.dtype), output_hidden_states=True
            )
        return to_array(outputs.hidden_states[layer + 1][0, 2:])


class TestLlava15(DecoderContract):
    build = "llava_15"
    own_class: ClassVar[Any] = LlavaForConditionalGeneration
    image_token = marker = "<image>"

    def own_processor(self, folder: Path) -> Any:
        options = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
        return own_processor(LlavaProcessor, CLIPImageProcessorPil, folder, patch_size=8, **options)

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        pixels = self.own_inputs(reference, folder, image, view)["pixel_values"].to(reference.dtype)
        with torch.inference_mode():
            outputs = reference.model.vision_tower(pixels, output_hidden_states=True)
        return to_array(outputs.hidden_states[layer + 1][0, 1:])


class TestLlava15Several(SeveralContract):
    """The example says nothing about several images."""

    family = TestLlava15
