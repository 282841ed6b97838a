"""Qwen3-VL with a mixture of experts: pictures, tokens and DeepStack are those of Qwen3-VL."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import Qwen3VLMoeForConditionalGeneration

from kvtool.models.families.qwen3_vl import Qwen3VL


class Qwen3VLMoe(Qwen3VL):
    """Checkpoints of model_type qwen3_vl_moe."""

    family = "qwen3_vl_moe"
    network: ClassVar[Any] = Qwen3VLMoeForConditionalGeneration
