"""Image processors that transformers has for torchvision alone, by its own means without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from kvtool.models.base import Array
from kvtool.models.cropping import resized_wh_px

MODES = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}
"""What torch calls the filters with which pictures of floats are resized."""


class Tipsv2ImageProcessorPil(PilBackend):
    """TIPSv2's: resized and brought to 0 to 1, not normed."""

    resample = PILImageResampling.BILINEAR
    size = {"height": 448, "width": 448}  # noqa: RUF012  as transformers has it
    do_resize = True
    do_rescale = True
    do_normalize = False
    do_convert_rgb = True


class DINOv3ViTImageProcessorPil(PilBackend):
    """DINOv3's, which resizes floats: values are not rounded to the levels of a picture again."""

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 224, "width": 224}  # noqa: RUF012  as transformers has it
    do_resize = True
    do_rescale = True
    do_normalize = True

    def resize(
        self,
        image: Array,
        size: SizeDict,
        resample: PILImageResampling | None = None,
        reducing_gap: int | None = None,  # noqa: ARG002  Pillow's
        **_options: Any,
    ) -> Array:
        """Return a picture (channel, height, width) resized as floats, which brings the same to 0
        to 1 afterwards as before, with the filter that torchvision takes for such.
        """
        # Channels come first here, and sizes are (width, height) elsewhere.
        height, width = image.shape[-2:]
        to_width, to_height = resized_wh_px((width, height), size)
        resized = interpolate(
            torch.from_numpy(image.astype(np.float32))[None],
            size=(to_height, to_width),
            mode=MODES[PILImageResampling(resample or self.resample)],
            align_corners=False,
            antialias=True,
        )
        values: Array = resized[0].numpy()
        return values
