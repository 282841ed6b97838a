"""RADIO."""

from __future__ import annotations

from PIL import Image
from transformers import CLIPImageProcessorPil, RadioModel

from kvtool.models.cropping import resized_wh_px
from kvtool.models.encoder import Encoder
from kvtool.models.sizes import whole_patches


class Radio(Encoder):
    """RADIO, at a picture's size where its image processor does not resize.

    It has a class token for some of its teachers each, and none that is the picture's.
    """

    family = "radio"
    network = RadioModel
    processor_class = CLIPImageProcessorPil
    interpolates = False
    has_class_token = False

    def chosen_wh_px(self, image: Image.Image) -> tuple[int, int] | None:
        """See Encoder.chosen_wh_px: to the nearest whole patches, for it takes no other size."""
        wh_px = super().chosen_wh_px(image)
        # A processor that crops brings pictures to whole patches itself.
        if wh_px is None and self.processor.do_center_crop:
            return None
        size = self.processor.size if self.processor.do_resize else None
        return whole_patches(wh_px or resized_wh_px(image.size, size), self.config.patch_size)
