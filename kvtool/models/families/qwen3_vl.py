"""Qwen3-VL: as Qwen2.5-VL, with DeepStack: what three layers of the tower see is added to the
residual stream after the decoder's first three layers, at image tokens.

One view: the image at its own aspect ratio, resized to multiples of 32 px. Its patches (16 px) are
the tower's tokens; each 2 x 2 of them becomes one token of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata

from kvtool.models.families.qwen_pictures import QwenModel
from kvtool.models.families.qwen_videos import Qwen3Videos
from kvtool.models.processors import ProcessedImage, laid_out
from kvtool.types import Frame, Sample


class Qwen3VL(QwenModel):
    """Checkpoints of model_type qwen3_vl."""

    family = "qwen3_vl"
    network: ClassVar[Any] = Qwen3VLForConditionalGeneration
    processor_class: Any = Qwen3VLProcessor
    video_processor_class: ClassVar[Any] = Qwen3Videos
    bounds_all_frames: ClassVar[bool] = True

    # Videos.

    def video_prompt(
        self, prefix: str, frames: Sequence[Frame], grid_thw: torch.Tensor
    ) -> tuple[tuple[int, ...], list[int], int]:
        """See QwenVideos.video_prompt: before the tokens of every two frames stands their time."""
        # Each grid of tokens begins at a run of placeholders, with its time before it.
        processed = self._timed(frames, grid_thw)
        starts = processed.runs(self.config.video_token_id)
        return self._prefix_ids(prefix, processed), starts, len(processed.ids)

    def layout(self, sample: Sample) -> ProcessedImage:
        """See WholeModel.layout; that of a video is made anew, as its times are its own."""
        if not sample.frames:
            return super().layout(sample)
        return self._timed(sample.frames, self.grids([sample]))

    def _timed(self, frames: Sequence[Frame], grid_thw: torch.Tensor) -> ProcessedImage:
        """Return what transformers' processor puts in the place of a video in the chat template."""
        processor = self.processor
        processor.video_processor = self.video_processor
        seconds: Any = [frame.second for frame in frames]
        # Their numbers by a rate of one a second are their seconds.
        metadata = VideoMetadata(len(frames), fps=1.0, frames_indices=seconds)
        inputs = {"video_grid_thw": grid_thw, "video_metadata": [metadata]}
        # The mark that opens a vision part belongs to the prompt before the video.
        markup = f"{self.opening}{processor.video_token}<|vision_end|>"
        replacement = processor.replace_video_token(inputs, 0)
        (text,), _ = processor.get_text_with_replacements([markup], [], [replacement])
        return laid_out(
            processor.tokenizer,
            text.removeprefix(self.opening),
            processor.video_token,
            {"video_grid_thw": grid_thw},
            "mm_token_type_ids",
        )

    # The decoder.

    def features_output(
        self,
        features: Sequence[torch.Tensor],
        added: Sequence[tuple[torch.Tensor, ...]],
    ) -> Any:
        """See WholeModel.features_output."""
        if not added:
            return super().features_output(features, added)
        output: Any = BaseModelOutputWithDeepstackFeatures  # transformers types one image's
        return output(
            pooler_output=tuple(features), deepstack_features=[list(layer) for layer in added]
        )
