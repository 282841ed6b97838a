"""What the image processors of towers show of a picture: resized, and perhaps cropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from kvtool.types import GridSpan

Rectangle = tuple[float, float, float, float]
MAX_STRETCH = 64
"""Where resizing makes a picture this many times the crop, only the crop's pixels are resized."""


def cropped(image: Image.Image, processor: Any) -> tuple[torch.Tensor, Rectangle]:
    """A tower's input (3, height, width) as an image processor makes it, by resizing and perhaps a
    center crop; and the rectangle of the original image, in its pixels, that it shows.
    """
    to_width, to_height = _to_wh_px(image.size, processor)
    crop_width, crop_height = _crop_wh_px(image.size, processor)
    shown_xyxy_px = shown_rectangle(image.size, processor)
    x0, y0, x1, y1 = shown_xyxy_px
    options = {}
    # A picture that is long and thin would be enlarged by far more than is looked at.
    if to_width * to_height > MAX_STRETCH * crop_width * crop_height and x0 >= 0 and y0 >= 0:
        # Columns, then rows, the order in which Pillow resizes a whole image.
        columns = (x0, 0, x1, image.height)
        image = image.resize((crop_width, image.height), processor.resample, box=columns)
        image = image.resize(
            (crop_width, crop_height), processor.resample, box=(0, y0, crop_width, y1)
        )
        options = {"do_resize": False, "do_center_crop": False}
    return processor(image, return_tensors="pt", **options)["pixel_values"][0], shown_xyxy_px


def shown_rectangle(image_wh_px: tuple[int, int], processor: Any) -> Rectangle:
    """Return the rectangle of a picture, in its pixels, that an image processor shows."""
    width, height = image_wh_px
    to_width, to_height = _to_wh_px(image_wh_px, processor)
    crop_width, crop_height = _crop_wh_px(image_wh_px, processor)
    # The middle of the resized picture, in the original's pixels.
    left, top = (to_width - crop_width) // 2, (to_height - crop_height) // 2
    scale_x, scale_y = width / to_width, height / to_height
    return (
        left * scale_x,
        top * scale_y,
        (left + crop_width) * scale_x,
        (top + crop_height) * scale_y,
    )


def _to_wh_px(image_wh_px: tuple[int, int], processor: Any) -> tuple[int, int]:
    """Size to which a processor resizes a picture."""
    return resized_wh_px(image_wh_px, processor.size if processor.do_resize else None)


def _crop_wh_px(image_wh_px: tuple[int, int], processor: Any) -> tuple[int, int]:
    """Size of what a processor keeps of a resized picture."""
    crop = processor.crop_size if processor.do_center_crop else None
    return (crop.width, crop.height) if crop else _to_wh_px(image_wh_px, processor)


def resized_wh_px(image_wh_px: tuple[int, int], size: Any) -> tuple[int, int]:
    """(width, height) an image processor resizes to: a fixed size, or one for the shorter edge;
    None keeps it.
    """
    width, height = image_wh_px
    if size is None:
        return width, height
    if size.shortest_edge is None:
        return size.width, size.height
    # The longer side is cut down to whole pixels, as the processor does.
    edge = size.shortest_edge
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def patch_span(
    pixels: torch.Tensor, shown_xyxy_px: Rectangle, patch_px: int | Sequence[int]
) -> GridSpan:
    """The patch grid of a tower's input (3, height, width); pixels after the last whole patch are
    never seen.
    """
    height, width = pixels.shape[-2:]
    patch_height, patch_width = (patch_px, patch_px) if isinstance(patch_px, int) else patch_px
    rows, cols = height // patch_height, width // patch_width
    x0, y0, x1, y1 = shown_xyxy_px
    seen_x, seen_y = cols * patch_width / width, rows * patch_height / height
    return GridSpan(
        "base", 0, (rows, cols), cols, (x0, y0, x0 + (x1 - x0) * seen_x, y0 + (y1 - y0) * seen_y)
    )
