"""Families that run through transformers' own forward of image and text."""

from __future__ import annotations

from tests.contracts.families.gemma3 import Gemma3
from tests.contracts.families.mistral3 import Mistral3
from tests.contracts.families.qwen3_vl import Qwen3VL


class TestQwen3VL(Qwen3VL):
    """DeepStack, interleaved rotary positions."""


class TestGemma3(Gemma3):
    """Image tokens that see each other both ways, within sliding windows too."""


class TestMistral3(Mistral3):
    """Marks between rows of image tokens."""
