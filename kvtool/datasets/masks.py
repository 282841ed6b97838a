"""Masks as arrays: label maps from PNG, polygons and run lengths from COCO annotations.

All that a file claims is checked before pycocotools or NumPy allocate by it: numbers finite and
near the picture, run lengths within it, mask files through raster.py like the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kvtool.datasets.names import brief
from kvtool.datasets.raster import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    RasterError,
    load_raster,
    one_line,
    open_raster,
    turn,
)
from kvtool.digests import read_stamped
from kvtool.errors import DatasetError

VOID = 255
"""Marks pixels that no metric counts."""

_MAX_OUTLINE_PX = 1_000_000
"""Length of all outlines of a mask together: rasterizing takes memory for every pixel on the way.
"""
_MAX_RUN_BITS = 40

LabelMap = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
IdMap = np.ndarray[tuple[int, int], np.dtype[np.int32]]


def read_label_map(path: Path) -> LabelMap:
    """Return (height, width) uint8 of an 8-bit gray or palette PNG; palette entries are the labels,
    colors do not matter.
    """
    image = _open(path)
    if image.mode not in ("L", "P"):
        raise DatasetError(
            f"{path}: expected an 8-bit grey or palette label map, found mode {image.mode}; "
            "use the label ids, not the colour rendering"
        )
    return np.asarray(image, dtype=np.uint8)


def read_rgb(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return (height, width, 3) uint8 of a color-coded map.

    Raises DatasetError for gray values, which code no colors.
    """
    # Transparency could be the mask itself, so that only opaque files are taken.
    image = _opaque(path, _open(path))
    if image.mode not in ("RGB", "P"):
        raise DatasetError(
            f"{path}: expected a colour-coded map (RGB), found mode {image.mode}; use the official "
            "file"
        )
    return np.asarray(image.convert("RGB"), dtype=np.uint8)


def read_binary(path: Path) -> LabelMap:
    """Return (height, width) uint8 0/1: everything brighter than black is foreground (gray, palette
    or color).
    """
    image = _opaque(path, _open(path))
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        return (np.asarray(image) > 0).astype(np.uint8)
    try:
        values = np.asarray(image.convert("RGB").convert("L"), dtype=np.uint8)
    except ValueError as error:
        raise DatasetError(
            f"{path}: expected a grey or colour mask, found: {one_line(error)}"
        ) from None
    return (values > 0).astype(np.uint8)


def _open(path: Path) -> Image.Image:
    try:
        data, _ = read_stamped(path, MAX_FILE_BYTES)
        image = open_raster(data, path.name)
        with turn(image, data):
            load_raster(image, data)
        return image
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: expected a mask, found nothing there; check the data set is complete"
        ) from None
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in the name
        raise DatasetError(f"{path}: expected a mask image, found: {one_line(error)}") from None
    except RasterError as error:
        raise DatasetError(f"{path}: expected a mask image, found: {error}") from None


def _opaque(path: Path, image: Image.Image) -> Image.Image:
    """Return the mask without its alpha channel.

    Raises DatasetError where that could be the mask itself.
    """
    if not image.has_transparency_data:
        return image
    # An alpha channel that is opaque everywhere says nothing.
    alpha = image.convert("RGBA").getchannel("A")
    if alpha.getextrema() != (255, 255):
        raise DatasetError(
            f"{path}: expected a mask without transparency, found an alpha channel; use the "
            "official file"
        )
    return image.convert("L" if image.mode in ("L", "LA") else "RGB")


def concept_masks(
    labels: np.ndarray[Any, Any], classes: Iterable[tuple[int, str]], ignored_id: int = VOID
) -> dict[str, LabelMap]:
    """Return the mask of each word over a label map: (height, width) uint8, 1 where a class of
    this name is, 0 where none is, 255 where the map is void.

    Args:
        labels: (height, width) class ids.
        classes: Ids and words of the classes; two classes may go by one word ("crane").
        ignored_id: The id of void pixels.
    """
    # Two classes of one word are one concept, whose mask is that of both.
    ids_by_word: dict[str, list[int]] = {}
    for class_id, word in classes:
        ids_by_word.setdefault(word, []).append(class_id)
    is_void = labels == ignored_id
    return {
        word: np.where(is_void, np.uint8(VOID), np.isin(labels, class_ids).astype(np.uint8))
        for word, class_ids in ids_by_word.items()
    }


def segmentation_mask(segmentation: Any, height: int, width: int, location: str) -> LabelMap:
    """Return (height, width) uint8 0/1 of a COCO `segmentation`: the union of its polygons, or a
    run length code.

    Polygons are rasterized by pycocotools, as COCO's own evaluation does. They may reach outside
    the picture by as much as its own size on each side. `location` names the annotation in errors.
    Raises DatasetError.
    """
    if not _is_size(height, width):
        size_text = f"{brief(width)} x {brief(height)}"
        raise DatasetError(
            f"{location}: expected a picture of at most {MAX_PIXELS / 1e6:.0f} megapixels, found "
            f"{size_text}"
        )
    try:
        if isinstance(segmentation, dict):
            size, counts = segmentation["size"], segmentation["counts"]
        else:
            size, counts = [height, width], _polygon_counts(segmentation, height, width)
        # A code made for a picture of another size would be laid out wrongly.
        if list(size) != [height, width]:
            raise ValueError(
                f"a mask of {brief(list(size)[::-1])} pixels on a picture of {[width, height]}"
            )
        runs = _run_lengths(counts, height * width)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise DatasetError(
            f"{location}: expected COCO polygons or run lengths, found: {reason}"
        ) from None
    # COCO's runs go down the columns, zeros first: every second run is the object.
    pixels = np.repeat(
        (np.arange(len(runs)) & 1).astype(np.uint8), runs
    )  # runs of 0 and 1 in turn, down the columns
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _is_size(height: Any, width: Any) -> bool:
    """Return whether these are the sides of a picture that could be decoded."""
    sides = (height, width)
    return all(type(side) is int and side > 0 for side in sides) and height * width <= MAX_PIXELS


def _run_lengths(counts: Any, pixels: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Run lengths that add up to the number of pixels. Raises ValueError."""
    runs = np.asarray(counts if isinstance(counts, list) else _decode_counts(counts))
    if runs.ndim != 1 or runs.dtype.kind not in "iu":
        raise ValueError("run lengths that are no whole numbers")
    # Each within the picture first: a sum of arbitrary numbers may overflow.
    if ((runs < 0) | (runs > pixels)).any() or runs.sum() != pixels:
        raise ValueError(f"run lengths that do not add up to the picture's {pixels} pixels")
    return runs.astype(np.int64)


def _polygon_counts(
    polygons: Sequence[Sequence[float]], height: int, width: int
) -> bytes | list[int]:
    """COCO's run lengths of the union of polygons [x0, y0, x1, y1, ...].

    Raises ValueError, TypeError.
    """
    from pycocotools import mask as coco_mask

    if not isinstance(polygons, list):
        raise TypeError(f"{brief(polygons)} in place of a list of polygons")
    outlines = [_outline(polygon, height, width) for polygon in polygons]
    # The longer side of each step, which is what rasterizing a line takes.
    steps = (
        np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
        for points in outlines
        if len(points)
    )
    if sum(steps) > _MAX_OUTLINE_PX:
        raise ValueError(f"outlines of more than {_MAX_OUTLINE_PX} pixels")
    areas = [
        points.ravel().tolist() for points in outlines if len(points) >= 3
    ]  # fewer enclose nothing
    if not areas:
        return [height * width]
    counts: bytes = coco_mask.merge(coco_mask.frPyObjects(areas, height, width))["counts"]
    return counts


def _outline(
    polygon: Any, height: int, width: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return (n, 2) points x, y of a polygon.

    Raises ValueError for what is no polygon on a picture of this size.
    """
    values = np.asarray(polygon)
    if (
        not isinstance(polygon, list)
        or values.ndim != 1
        or len(values) % 2
        or (polygon and values.dtype.kind not in "iuf")
    ):
        raise ValueError(f"{brief(polygon)} in place of a polygon [x, y, x, y, ...]")
    points = values.astype(np.float64).reshape(-1, 2)
    side = np.array([width, height])
    if not ((points >= -side) & (points <= 2 * side)).all():  # NaN compares as false
        raise ValueError("a polygon with points that are not finite, or far outside the picture")
    return points


def _decode_counts(code: str | bytes) -> list[int]:
    """COCO's compressed run lengths: five bits a character, each run from the third on relative to
    the last but one.

    Decoded here since pycocotools' own decoder trips over NumPy 2's deprecations. Raises
    ValueError, TypeError.
    """
    if not isinstance(code, str | bytes):
        raise TypeError(f"{brief(code)} in place of run lengths")
    counts: list[int] = []
    value = shift = 0
    # The low five bits are the number's, the sixth says that it goes on.
    for character in code.encode("ascii") if isinstance(code, str) else code:
        bits = character - 48
        if not 0 <= bits < 64 or shift > _MAX_RUN_BITS:
            raise ValueError("a damaged run length code")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        # The last group's highest bit is the sign.
        if bits & 0x10:
            value -= 1 << shift
        # From the third run on the difference to the run before the last one is stored.
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
