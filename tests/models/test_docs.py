"""The encoder that docs/adding-a-model.md adds as an example, run through the contract."""

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
from transformers import DeiTModel

from kvtool.models.families import FAMILIES, gemma3
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_pixels
from tests.contracts.model_contract import EncoderContract

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-model.md"


@pytest.fixture(scope="module", autouse=True)
def examples() -> Iterator[None]:
    """The page's families, in the table as if they were the package's."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType("examples")
    for block in blocks:
        if re.search(r"class \w+\(Encoder\)", block):
            exec(block, module.__dict__)
    sys.modules["examples"] = module
    added = {"deit": "examples:Deit"}
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


def test_the_multimodal_example_is_the_packages() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (example,) = [block for block in blocks if "class Gemma3(WholeModel)" in block]
    assert Path(gemma3.__file__).read_text().endswith(example)
