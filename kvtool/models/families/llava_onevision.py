"""LLaVA-OneVision: a SigLIP tower, two projector layers, a Qwen2 decoder; 27 x 27 tokens of the
base view at 384 px.
"""

from __future__ import annotations

import re
from typing import Any

from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil

from kvtool.errors import ModelError
from kvtool.models.families.llava import Llava
from kvtool.models.loading import Checkpoint

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% "
    "endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class LlavaOnevision(Llava):
    """Checkpoints of model_type llava_onevision."""

    family = "llava_onevision"
    network = LlavaOnevisionForConditionalGeneration
    processor_class = LlavaOnevisionImageProcessorPil

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        ratio = re.fullmatch(
            r"anyres_max_(\d{1,3})", str(self.config.vision_aspect_ratio), re.ASCII
        )
        if ratio is None:
            raise ModelError(
                f"model {checkpoint.snapshot.name}: config.json: expected vision_aspect_ratio "
                "anyres_max_N, which says "
                f"how many tiles are kept, found {self.config.vision_aspect_ratio!r}; take the "
                "checkpoint's own config"
            )
        self.max_tiles = int(ratio[1])

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return CHATML

    def pack_options(self) -> dict[str, Any]:
        """Return options of the network's packing of tiles."""
        return {"vision_aspect_ratio": self.config.vision_aspect_ratio}
