"""Qwen2-VL and Qwen2.5-VL: dynamic resolution, patches merged two by two, three-dimensional rotary
positions.

One view: the image at its own aspect ratio, resized to multiples of 28 px within the checkpoint's
pixel limits. Its patches (14 px) are the tower's tokens; each 2 x 2 of them becomes one token of
the decoder, so that the token grid is half the patch grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from kvtool.errors import ImageError, UsageError
from kvtool.models.base import Prepared, sample_of
from kvtool.models.cache import layer_outputs, tower_layers
from kvtool.models.decoder import DecoderModel
from kvtool.models.device import to_device
from kvtool.models.families.qwen_grids import sized
from kvtool.models.families.qwen_videos import Qwen2Videos, QwenVideos
from kvtool.models.faults import preparing
from kvtool.models.loading import Checkpoint
from kvtool.types import GridSpan, Sample, View

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ "
    "message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' "
    "%}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MAX_ASPECT = 200
"""transformers' limit for Qwen's image processor."""


class Qwen2VL(QwenVideos, DecoderModel):
    """Checkpoints of model_type qwen2_vl."""

    family = "qwen2_vl"
    network: ClassVar[Any] = Qwen2VLForConditionalGeneration
    opening = "<|vision_start|>"
    size_options: ClassVar[tuple[str, ...]] = ("image_size", "min_pixels", "max_pixels")
    video_processor_class: ClassVar[Any] = Qwen2Videos

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.processor = checkpoint.processor(Qwen2VLImageProcessorPil)
        self.size = checkpoint.settings.size

    @property
    def image_processor(self) -> Any:
        """See QwenVideos.image_processor."""
        return self.processor

    def fallback_template(self) -> str:
        """Return the chat template for a checkpoint that has none."""
        return CHATML

    def vision_size(self) -> tuple[int, int]:
        """Return the layers and the width of the tower."""
        vision = self.config.vision_config
        return vision.depth, vision.embed_dim

    def default_vision_layers(self) -> tuple[int, ...]:
        """Return the layer of the tower that is stored by default."""
        return (self.vision_size()[0] - 1,)

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare. Qwen has one view: base and full are the same."""
        if view not in ("base", "full"):
            raise UsageError(f"view: expected base or full, found {view!r}; choose one of these")
        width, height = image.size
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageError(
                f"image {id}: expected an aspect ratio of at most {MAX_ASPECT}, found {width} x "
                f"{height} px; "
                "crop it or leave it out"
            )
        with preparing(id):
            features = self._features(image)
        # The processor chooses the size: the grid is read off what it made.
        rows, cols = (int(n) for n in features["image_grid_thw"][0, 1:])
        merge = self.config.vision_config.spatial_merge_size
        grid = (rows // merge, cols // merge)
        cover = (0.0, 0.0, float(width), float(height))
        sample = sample_of(
            image,
            id=id,
            index=index,
            prefix=prefix,
            prefix_ids=self.prompt.prefix_ids(prefix),
            spans=(GridSpan("base", 0, grid, grid[1], cover),),
            vision_spans=(GridSpan("base", 0, (rows, cols), cols, cover),),
            # Rotary positions have axes for rows and columns: text goes on behind the longer one.
            advance=max(grid),
        )
        pixels = features["pixel_values"].to(self.checkpoint.dtype)
        return Prepared(sample, {"pixels": pixels}, (sample.image_start, rows, cols))

    def video_tensors(
        self,
        pixels: torch.Tensor,
        grid_thw: torch.Tensor,  # noqa: ARG002
    ) -> dict[str, torch.Tensor]:
        """See QwenVideos.video_tensors."""
        return {"pixels": pixels}

    def _features(self, image: Image.Image) -> Any:
        """What the image processor makes of a picture, at the size that was asked for."""
        vision = self.config.vision_config
        step_px = vision.patch_size * vision.spatial_merge_size
        picture, options = sized(image, self.size, self.processor, step_px)
        return self.processor(picture, return_tensors="pt", **options)

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """See DecoderModel.encode."""
        pixels = to_device([item.tensors["pixels"] for item in batch], self.checkpoint.device)
        spans = batch[0].sample.vision_spans  # of a video several, one behind the other
        grid = [len(spans), *spans[0].grid]
        grids = torch.tensor([grid] * len(batch), device=self.checkpoint.device)
        tower = self.net.model.visual
        layers = tower_layers(tower, self.info.geometry.vision_layers)
        # Finished ends the pass before the merger where only layers of the tower were asked for.
        tokens = None
        with layer_outputs(layers, vision_layers, stop=not project) as outputs:
            tokens = tower(pixels.flatten(0, 1), grid_thw=grids).pooler_output
        if tokens is not None:
            tokens = tokens.reshape(len(batch), -1, tokens.shape[-1])
        return tokens, {layer: self._row_major(outputs[layer], grids) for layer in vision_layers}

    def _row_major(self, states: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        """Tower outputs (patch of all images, dim), patches of a token together, as (image, patch,
        dim) row by row.
        """
        merge = self.config.vision_config.spatial_merge_size
        rows, cols = (int(n) // merge for n in grids[0, 1:])
        # Patches come block by block, those of a token together; rows of blocks become rows of
        # patches.
        blocks = self._in_order(states.reshape(-1, merge * merge, states.shape[-1]), grids)
        blocks = blocks.reshape(-1, rows, cols, merge, merge, blocks.shape[-1])
        return blocks.transpose(2, 3).reshape(len(grids), -1, blocks.shape[-1])

    def _in_order(self, blocks: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Blocks of patches (block, patch, dim) in the order of the decoder's tokens."""
        return blocks


class Qwen25VL(Qwen2VL):
    """Checkpoints of model_type qwen2_5_vl, whose tower attends within windows and reorders patches
    for it.
    """

    family = "qwen2_5_vl"
    network = Qwen2_5_VLForConditionalGeneration

    def vision_size(self) -> tuple[int, int]:
        """Return the layers and the width of the tower."""
        vision = self.config.vision_config
        return vision.depth, vision.hidden_size

    def time_step(self, sample: Sample) -> float | torch.Tensor:
        """See QwenVideos.time_step: by the seconds between them."""
        tokens_per_second: int = self.config.vision_config.tokens_per_second
        return tokens_per_second * self.seconds_a_token(sample)

    def _in_order(self, blocks: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        from transformers.vision_utils import get_vision_window_index

        vision = self.config.vision_config
        index: Any
        index, _ = get_vision_window_index(
            grids,
            spatial_merge_size=vision.spatial_merge_size,
            window_size=vision.window_size,
            patch_size=vision.patch_size,
        )
        return blocks[torch.argsort(index).to(blocks.device)]
