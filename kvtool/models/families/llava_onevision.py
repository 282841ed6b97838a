"""LLaVA-OneVision: a SigLIP tower, two projector layers, a Qwen2 decoder; 27 x 27 tokens of the
base view at 384 px.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from PIL import Image
from transformers import LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessorPil

from kvtool.errors import ModelError
from kvtool.models.anyres import moved_span
from kvtool.models.base import Prepared
from kvtool.models.families.llava import Llava
from kvtool.models.loading import Checkpoint
from kvtool.types import View

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

    def prepare_several(
        self, image: Image.Image, *, id: str, index: int, view: View = "base"
    ) -> Prepared:
        """See LanguageModel.prepare_several: padded to a square with the mean color, in one view,
        however an image alone is kept.
        """
        del view
        # As transformers' processor pads each of several pictures: in the middle of a square.
        width, height = image.size
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        mean = tuple(int(255 * channel) for channel in self.processors["base"].image_mean)
        square = Image.new("RGB", (side, side), mean)
        square.paste(image, (left, top))
        prepared = self.prepare(square, id=id, index=index)
        # The grid reaches beyond the picture, as wide as the padding is.
        span = moved_span(prepared.sample.spans[0], -left, -top)
        sample = replace(
            prepared.sample, image_wh_px=image.size, spans=(span,), vision_spans=(span,)
        )
        return replace(prepared, sample=sample)

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return CHATML

    def pack_options(self) -> dict[str, Any]:
        """Return options of the network's packing of tiles."""
        return {"vision_aspect_ratio": self.config.vision_aspect_ratio}
