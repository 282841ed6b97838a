"""Qwen2-VL and Qwen2.5-VL: dynamic resolution, patches merged two by two, three-dimensional rotary
positions.

One view: the image at its own aspect ratio, resized to multiples of 28 px within the checkpoint's
pixel limits. Its patches (14 px) are the tower's tokens; each 2 x 2 of them becomes one token of
the decoder, so that the token grid is half the patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.vision_utils import get_vision_window_index

from kvtool.models.families.qwen_pictures import QwenModel
from kvtool.models.families.qwen_videos import Qwen2Videos
from kvtool.models.processors import ProcessedImage
from kvtool.types import Sample

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ "
    "message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' "
    "%}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Qwen2VL(QwenModel):
    """Checkpoints of model_type qwen2_vl."""

    family = "qwen2_vl"
    network: ClassVar[Any] = Qwen2VLForConditionalGeneration
    processor_class: Any = Qwen2VLProcessor
    video_processor_class: ClassVar[Any] = Qwen2Videos

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return CHATML

    def vision_size(self) -> tuple[int, int]:
        """See DecoderModel.vision_size."""
        vision = self.config.vision_config
        return vision.depth, vision.embed_dim


class Qwen25VL(QwenModel):
    """Checkpoints of model_type qwen2_5_vl, whose tower attends within windows and reorders patches
    for it.
    """

    family = "qwen2_5_vl"
    network: ClassVar[Any] = Qwen2_5_VLForConditionalGeneration
    processor_class: Any = Qwen2_5_VLProcessor
    video_processor_class: ClassVar[Any] = Qwen2Videos

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return CHATML

    def time_step(self, sample: Sample) -> float | torch.Tensor:
        """See QwenVideos.time_step: by the seconds between them."""
        tokens_per_second: int = self.config.vision_config.tokens_per_second
        return tokens_per_second * self.seconds_a_token(sample)

    def layout(self, sample: Sample) -> ProcessedImage:
        """See WholeModel.layout: of a video with the seconds of a token."""
        layout = super().layout(sample)
        if not sample.frames:
            return layout
        seconds = {"second_per_grid_ts": self.seconds_a_token(sample)[None]}
        return replace(layout, inputs=layout.inputs | seconds)

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: squares of patches are put back from their windows."""
        vision = self.config.vision_config
        # Windows reorder squares; sorting their numbers gives the way back.
        index: Any
        index, _ = get_vision_window_index(
            self.grids(samples),
            spatial_merge_size=vision.spatial_merge_size,
            window_size=vision.window_size,
            patch_size=vision.patch_size,
        )
        squares = states.reshape(len(index), -1, states.shape[-1])
        return super().patches(squares[torch.argsort(index).to(states.device)], samples)
