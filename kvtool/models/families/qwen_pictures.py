"""What the families of Qwen's towers share: a picture at its own aspect ratio, resized to whole
squares of patches, each square a token of the decoder.

One view. The patches are the tower's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from kvtool.errors import ImageError
from kvtool.models.base import Prepared
from kvtool.models.families.qwen_grids import sized
from kvtool.models.families.qwen_videos import QwenVideos
from kvtool.models.processors import ProcessedImage, processed_image
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, Sample, View

MAX_ASPECT = 200
"""transformers' limit for Qwen's image processor."""


class QwenModel(QwenVideos, WholeModel):
    """A multimodal model of Qwen's, run through its own forward."""

    image_processor_class = Qwen2VLImageProcessorPil
    opening = "<|vision_start|>"
    lists_features = True
    size_options: ClassVar[tuple[str, ...]] = ("image_size", "min_pixels", "max_pixels")

    @property
    def image_processor(self) -> Any:
        """See QwenVideos.image_processor."""
        return self.processor.image_processor

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare."""
        width, height = image.size
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageError(
                f"image {id}: expected an aspect ratio of at most {MAX_ASPECT}, found {width} x "
                f"{height} px; crop it or leave it out"
            )
        return super().prepare(image, id=id, index=index, prefix=prefix, view=view)

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:  # noqa: ARG002
        """See WholeModel.processed. There is one view: base and full are the same."""
        vision = self.config.vision_config
        picture, options = sized(
            image,
            self.checkpoint.settings.size,
            self.image_processor,
            vision.patch_size * vision.spatial_merge_size,
        )
        return processed_image(self.processor, picture, self.placeholder, **options)

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans."""
        # The processor chooses the size: the grid is read off what it made.
        rows, cols = (int(n) for n in processed.inputs["image_grid_thw"][0, 1:])
        merge = self.config.vision_config.spatial_merge_size
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        tokens = GridSpan("base", 0, (rows // merge, cols // merge), cols // merge, cover)
        return (tokens,), (GridSpan("base", 0, (rows, cols), cols, cover),)

    def advance(self, spans: Spans) -> int:
        """See WholeModel.advance: by the longer side of the grid."""
        return max(spans[0].grid)

    def layout(self, sample: Sample) -> ProcessedImage:
        """See WholeModel.layout: as many placeholders as the sample's grids have tokens."""
        modality, placeholder_id = self.modality(sample)
        inputs = {f"{modality}_grid_thw": self.grids([sample])}
        ids = (placeholder_id,) * sample.n_tokens
        return ProcessedImage(inputs, ids, "", "", "mm_token_type_ids")

    def grids(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return each sample's grid of patches, (sample, 3): time, rows, cols."""
        # A video has one grid a time, all of one size.
        spans = [sample.vision_spans for sample in samples]  # of a video several, one a time
        return torch.tensor([[len(grids), *grids[0].grid] for grids in spans])

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """See WholeModel.patches: the tower's come in squares of those that share a token."""
        merge = self.config.vision_config.spatial_merge_size
        rows, cols = samples[0].spans[0].grid
        # Rows of squares become rows of patches.
        squares = states.reshape(-1, rows, cols, merge, merge, states.shape[-1])
        return squares.transpose(2, 3).reshape(len(samples), -1, states.shape[-1])
