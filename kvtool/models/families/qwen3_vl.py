"""Qwen3-VL: as Qwen2.5-VL, with DeepStack: what three layers of the tower see is added to the
residual stream after the decoder's first three layers, at image tokens.

One view: the image at its own aspect ratio, resized to multiples of 32 px. Its patches (16 px) are
the tower's tokens; each 2 x 2 of them becomes one token of the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.video_utils import VideoMetadata

from kvtool.models.families.qwen_grids import sized
from kvtool.models.families.qwen_videos import Qwen3Videos, QwenVideos
from kvtool.models.processors import ProcessedImage, laid_out, processed_image
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import Frame, GridSpan, Sample, View


class Qwen3VL(QwenVideos, WholeModel):
    """Checkpoints of model_type qwen3_vl."""

    family = "qwen3_vl"
    network: ClassVar[Any] = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    image_processor_class = Qwen2VLImageProcessorPil
    opening = "<|vision_start|>"
    lists_features = True
    size_options: ClassVar[tuple[str, ...]] = ("image_size", "min_pixels", "max_pixels")
    video_processor_class: ClassVar[Any] = Qwen3Videos
    bounds_all_frames: ClassVar[bool] = True

    @property
    def image_processor(self) -> Any:
        """See QwenVideos.image_processor."""
        return self.processor.image_processor

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:  # noqa: ARG002
        """See WholeModel.processed. There is one view: base and full are the same."""
        vision = self.config.vision_config
        picture, options = sized(
            image,
            self.checkpoint.settings.size,
            self.processor.image_processor,
            vision.patch_size * vision.spatial_merge_size,
        )
        return processed_image(self.processor, picture, self.placeholder, **options)

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        rows, cols = (int(n) for n in processed.inputs["image_grid_thw"][0, 1:])
        merge = self.config.vision_config.spatial_merge_size
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        tokens = GridSpan("base", 0, (rows // merge, cols // merge), cols // merge, cover)
        return (tokens,), (GridSpan("base", 0, (rows, cols), cols, cover),)

    def advance(self, spans: Spans) -> int:
        """See WholeModel.advance: by the longer side of the grid."""
        return max(spans[0].grid)

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: the tower's come in squares of those that share a token."""
        merge = self.config.vision_config.spatial_merge_size
        rows, cols = samples[0].spans[0].grid
        squares = states.reshape(-1, rows, cols, merge, merge, states.shape[-1])
        return squares.transpose(2, 3).reshape(len(samples), -1, states.shape[-1])

    # Videos.

    def video_tensors(
        self, pixels: torch.Tensor, grid_thw: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See QwenVideos.video_tensors."""
        return {"pixel_values_videos": pixels, "video_grid_thw": grid_thw}

    def video_prompt(
        self, prefix: str, frames: Sequence[Frame], grid_thw: torch.Tensor
    ) -> tuple[tuple[int, ...], list[int], int]:
        """See QwenVideos.video_prompt: before the tokens of every two frames stands their time."""
        processed = self._timed(frames, grid_thw)
        starts = processed.runs(self.config.video_token_id)
        return self._prefix_ids(prefix, processed), starts, len(processed.ids)

    def layout(self, sample: Sample) -> ProcessedImage:
        """See WholeModel.layout; that of a video is made anew, as its times are its own."""
        if not sample.frames:
            return super().layout(sample)
        grids = sample.vision_spans
        return self._timed(sample.frames, torch.tensor([[len(grids), *grids[0].grid]]))

    def _timed(self, frames: Sequence[Frame], grid_thw: torch.Tensor) -> ProcessedImage:
        """Return what transformers' processor puts in the place of a video in the chat template."""
        processor = self.processor
        processor.video_processor = self.video_processor
        seconds: Any = [frame.second for frame in frames]
        # Their numbers by a rate of one a second are their seconds.
        metadata = VideoMetadata(len(frames), fps=1.0, frames_indices=seconds)
        inputs = {"video_grid_thw": grid_thw, "video_metadata": [metadata]}
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
