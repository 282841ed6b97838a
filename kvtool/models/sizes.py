"""The size to which a picture is brought before a tower sees it, as a user asked for it."""

from __future__ import annotations

import re
from typing import Any

from kvtool.errors import ImageError, UsageError
from kvtool.types import InputSize

LARGEST_PX = 8192
MOST_PIXELS = 1 << 26
"""Of a tower's input; as many as a checkpoint's own settings may ask for."""
_SQUARE = re.compile(r"[1-9]\d{0,4}")
_FIXED = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_SHORT = re.compile(r"short:([1-9]\d{0,4})")


def check_input(size: InputSize) -> InputSize:
    """Return the size that pictures are to be brought to. Raises UsageError where it is none."""
    text = size.image_size
    # Sides are read whatever the form, since the limit holds for all forms.
    sides = [int(side) for side in re.findall(r"\d+", text)]
    is_known = any(pattern.fullmatch(text) for pattern in (_SQUARE, _FIXED, _SHORT))
    if text and (not is_known or max(sides) > LARGEST_PX):
        raise UsageError(
            "image size: expected a side such as 384, a height and width such as 480x832, or "
            f"short:480, in pixels up to {LARGEST_PX}, found {text!r}"
        )
    for name in ("min_pixels", "max_pixels"):
        if not 0 <= getattr(size, name) <= MOST_PIXELS:
            raise UsageError(f"{name}: expected 1 to {MOST_PIXELS}, found {getattr(size, name)}")
    if size.max_pixels and size.min_pixels > size.max_pixels:
        raise UsageError(
            f"min_pixels: expected {size.max_pixels} at most, which is max_pixels, found "
            f"{size.min_pixels}"
        )
    return size


def input_wh_px(
    image_wh_px: tuple[int, int], image_size: str, step_px: int, long_step_px: int | None = None
) -> tuple[int, int]:
    """Return the (width, height) that a picture of a size is resized to.

    Both sides of "short:N" are multiples of step_px, the longer one of long_step_px where that is
    given, rounded down, but at least one step; the other forms are taken as they are.

    Raises ImageError where an input of its aspect ratio would have too many pixels.
    """
    if match := _FIXED.fullmatch(image_size):
        return int(match[2]), int(match[1])
    if _SQUARE.fullmatch(image_size):
        return int(image_size), int(image_size)
    short_px = int(image_size.removeprefix("short:"))
    width, height = image_wh_px
    # The longer side follows from what was asked for, and both are rounded afterwards.
    long_px = int(short_px * max(width, height) / min(width, height))
    step = long_step_px or step_px
    # The shorter side is rounded first, and the longer one is never shorter than it.
    short_side = _floored(short_px, step_px)
    long_side = short_side if width == height else max(_floored(long_px, step), short_side)
    if short_side * long_side > MOST_PIXELS:
        raise ImageError(
            f"expected an aspect ratio whose input has {MOST_PIXELS} pixels at most, found "
            f"{width} x {height} px"
        )
    return (short_side, long_side) if width <= height else (long_side, short_side)


def whole_patches(wh_px: tuple[int, int], patch_px: int) -> tuple[int, int]:
    """Return a (width, height) with each side brought to the nearest number of whole patches, one
    at least.
    """
    width, height = (max(round(side / patch_px), 1) * patch_px for side in wh_px)
    return width, height


def _floored(side_px: int, step_px: int) -> int:
    return max(side_px // step_px, 1) * step_px


def largest_input(processor: Any) -> float:
    """Return the pixels of the largest input that an image processor's settings ask for."""
    areas = [0.0]
    if patches := getattr(processor, "max_num_patches", None):
        # Patches are bounded by their number, other inputs by their sides.
        areas.append(float(patches) * float(processor.patch_size) ** 2)
    counts_pixels = hasattr(processor, "merge_size")  # Qwen's edges are areas
    for size in (getattr(processor, "size", None), getattr(processor, "crop_size", None)):
        height, width, edge = (
            getattr(size, name, None) or 0 for name in ("height", "width", "shortest_edge")
        )
        areas += [float(height) * float(width), float(edge) if counts_pixels else float(edge) ** 2]
    for height, width in getattr(processor, "image_grid_pinpoints", None) or []:
        areas.append(float(height) * float(width))
    return max(areas)
