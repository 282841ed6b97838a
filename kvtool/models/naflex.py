"""Towers that take a picture's patches at its own aspect ratio, as SigLIP 2 does (NaFlex)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Siglip2ImageProcessorPil, Siglip2VisionModel

from kvtool.models.encoder import Encoder
from kvtool.models.sizes import whole_patches
from kvtool.types import GridSpan


class NaflexEncoder(Encoder):
    """A picture is resized to as many whole patches as its image processor allows.

    transformers pads them to that number and masks the padding; here pictures of one grid share a
    batch, and nothing is padded.
    """

    network: ClassVar[Any] = Siglip2VisionModel
    processor_class: ClassVar[Any] = Siglip2ImageProcessorPil
    interpolates = False
    size_options = ("image_size", "max_pixels")

    def pixels(self, image: Image.Image) -> tuple[torch.Tensor, GridSpan]:
        """See Encoder.pixels; the input is (patch, height * width * channel)."""
        patch_px = self.config.patch_size
        cover_xyxy_px = (0.0, 0.0, float(image.width), float(image.height))
        options: dict[str, Any] = {}
        # A size that was asked for is met in whole patches; otherwise their number is bounded.
        if wh_px := self.chosen_wh_px(image):
            width, height = whole_patches(wh_px, patch_px)
            image = image.resize((width, height), self.processor.resample)
            n_patches = (width // patch_px) * (height // patch_px)
            options = {"do_resize": False, "max_num_patches": n_patches}
        elif most_pixels := self.checkpoint.settings.size.max_pixels:
            options = {"max_num_patches": max(most_pixels // patch_px**2, 1)}
        features = self.processor(image, return_tensors="pt", **options)
        rows, cols = (int(count) for count in features["spatial_shapes"][0])
        span = GridSpan("base", 0, (rows, cols), cols, cover_xyxy_px)
        # The processor pads to the largest number of patches, which is cut off again.
        return features["pixel_values"][0, : rows * cols], span

    def forward(self, pixels: torch.Tensor, grid: tuple[int, int]) -> Any:
        """See Encoder.forward. Without padding there is nothing to mask."""
        shapes = torch.tensor([grid] * len(pixels), device=pixels.device)
        return self.net(pixels, pixel_attention_mask=None, spatial_shapes=shapes)
