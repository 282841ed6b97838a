"""Qwen3.5: the tower and the grids of Qwen3-VL without DeepStack, and a decoder of which most
layers are linear attention: these hold a state in place of keys and values.

One view, as Qwen3-VL's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import (
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeForConditionalGeneration,
)
from transformers.models.qwen3_5.modeling_qwen3_5 import apply_rotary_pos_emb

from kvtool.models.families.qwen3_vl import Qwen3VL


class Qwen35(Qwen3VL):
    """Checkpoints of model_type qwen3_5."""

    family = "qwen3_5"
    network: ClassVar[Any] = Qwen3_5ForConditionalGeneration

    def rotate(
        self, keys: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        """See PromptCache.rotate: a quarter of a head's dimensions turns."""
        rotary: Any = apply_rotary_pos_emb
        rotated: torch.Tensor = rotary(keys, keys, cosines, sines)[1]
        return rotated


class Qwen35Moe(Qwen35):
    """Checkpoints of model_type qwen3_5_moe: the same with a mixture of experts."""

    family = "qwen3_5_moe"
    network: ClassVar[Any] = Qwen3_5MoeForConditionalGeneration
