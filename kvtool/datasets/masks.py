"""Masks as arrays: label maps from PNG, polygons and run lengths from COCO annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kvtool.errors import DatasetError

VOID = 255
"""Marks pixels that no metric counts."""

LabelMap = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
IdMap = np.ndarray[tuple[int, int], np.dtype[np.int32]]


def read_label_map(path: Path) -> LabelMap:
    """(height, width) uint8 of an 8-bit grey or palette PNG; palette entries are the labels, colours do not matter."""
    image = _open(path)
    if image.mode not in ("L", "P"):
        raise DatasetError(
            f"{path}: expected an 8-bit grey or palette label map, found mode {image.mode}; "
            "use the label ids, not the colour rendering"
        )
    return np.asarray(image, dtype=np.uint8)


def read_rgb(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(height, width, 3) uint8 of a colour-coded map, whatever its mode on disk."""
    return np.asarray(_open(path).convert("RGB"), dtype=np.uint8)


def read_binary(path: Path) -> LabelMap:
    """(height, width) uint8 0/1: everything brighter than black is foreground (grey, palette or colour)."""
    image = _open(path)
    grey = image if image.mode == "1" else image.convert("RGB").convert("L")
    return (np.asarray(grey, dtype=np.uint8) > 0).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a mask, found nothing there; check the data set is complete") from None
    except (OSError, ValueError, SyntaxError) as error:
        said = " ".join(str(error).split())
        raise DatasetError(f"{path}: expected a mask image, found: {said}; download the file again") from None


def segmentation_mask(segmentation: Any, height: int, width: int, where: str) -> LabelMap:
    """(height, width) uint8 0/1 of a COCO `segmentation`: the union of its polygons, or a run length code.

    Polygons are rasterised by pycocotools, as COCO's own evaluation does. `where` names the annotation in errors.
    """
    try:
        if isinstance(segmentation, dict):
            code_height, code_width = segmentation["size"]
            counts = segmentation["counts"]
        else:
            code_height, code_width, counts = height, width, _polygon_counts(segmentation, height, width)
        runs = np.asarray(counts if isinstance(counts, list) else _decode_counts(counts), dtype=np.int64)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise DatasetError(f"{where}: expected COCO polygons or run lengths, found: {error}") from None
    if (code_height, code_width) != (height, width) or runs.sum() != height * width or (runs < 0).any():
        found = f"{code_width} x {code_height} with {runs.sum()} pixels in its runs"
        raise DatasetError(f"{where}: expected run lengths of {width} x {height} pixels, found {found}")
    pixels = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), runs)  # runs of 0 and 1 in turn, down the columns
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _polygon_counts(polygons: list[list[float]], height: int, width: int) -> bytes | list[int]:
    from pycocotools import mask as coco_mask

    areas = [polygon for polygon in polygons if len(polygon) >= 6]  # fewer than three points enclose nothing
    if not areas:
        return [height * width]
    counts: bytes = coco_mask.merge(coco_mask.frPyObjects(areas, height, width))["counts"]
    return counts


def _decode_counts(code: str | bytes) -> list[int]:
    """COCO's compressed run lengths: five bits a character, each run from the third on relative to the last but one.

    Decoded here since pycocotools' own decoder trips over NumPy 2's deprecations.
    """
    counts: list[int] = []
    value = shift = 0
    for character in code.encode() if isinstance(code, str) else code:
        bits = character - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
