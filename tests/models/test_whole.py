"""Families that run through transformers' own forward of image and text."""

from __future__ import annotations

from tests.contracts.families.gemma3 import Gemma3
from tests.contracts.families.idefics3 import Idefics3, SmolVLM
from tests.contracts.families.internvl import InternVL
from tests.contracts.families.llava_15 import Llava15
from tests.contracts.families.mistral3 import Mistral3
from tests.contracts.families.qwen3_vl import Qwen3VL


class TestQwen3VL(Qwen3VL):
    """DeepStack, interleaved rotary positions."""


class TestGemma3(Gemma3):
    """Image tokens that see each other both ways, within sliding windows too."""


class TestMistral3(Mistral3):
    """Marks between rows of image tokens."""


class TestInternVL(InternVL):
    """Blocks of tiles, the whole picture last."""


class TestIdefics3(Idefics3):
    """Blocks of tiles between marks, the whole picture last."""


class TestSmolVLM(SmolVLM):
    """The same in classes of its own."""


class TestLlava15(Llava15):
    """A crop, and nothing else."""
