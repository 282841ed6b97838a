"""Grids of tokens of families without a file: from the sizes that a processor gives, and from what
it does to two ramps of gray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

Rectangle = tuple[float, float, float, float]
GRID_INPUTS = ("image_grid_thw", "image_grid_hws", "spatial_shapes")
"""Arguments that say how many patches a picture has, rows and columns last."""
TOLERANCE = 0.03
"""How far edges of what a tower sees may lie from those of a known form, as a share of a side."""


class TokenGrid(NamedTuple):
    """Where rows and columns of tokens lie among those of an image."""

    start: int
    rows: int
    cols: int
    row_stride: int


def patch_counts(inputs: Mapping[str, torch.Tensor], patch_px: int | None) -> tuple[int, int]:
    """Return (rows, cols) of what the tower sees: patches, or pixels where it has none.

    Raises ValueError where the picture was cut into tiles, or the arguments do not say it.
    """
    for name in GRID_INPUTS:
        if name in inputs:
            # Rows and columns stand last, behind the number of frames where there is one.
            sides = inputs[name].reshape(-1, inputs[name].shape[-1])
            if len(sides) != 1:
                raise ValueError(f"expected one grid a picture in {name}, found {len(sides)}")
            return int(sides[0, -2]), int(sides[0, -1])
    pixels = inputs.get("pixel_values")
    if pixels is None or pixels.ndim < 4:
        raise ValueError("expected pixel_values (tile, channel, row, col), or image_grid_thw")
    if (n_tiles := pixels.shape[:-3].numel()) != 1:
        raise ValueError(f"expected a picture in one piece, found {n_tiles} tiles")
    height, width = pixels.shape[-2:]
    return (height // patch_px, width // patch_px) if patch_px else (height, width)


def token_grid(runs: Sequence[tuple[int, int]], rows: int, cols: int) -> TokenGrid:
    """Return the grid of an image's tokens, of the same aspect as what the tower sees.

    Args:
        runs: The start and the length of each run of placeholders.
        rows: Rows of what the tower sees.
        cols: Its columns.

    Raises ValueError where no grid of these sides has so many tokens.
    """
    # Each run of placeholders between other tokens is looked at.
    starts, lengths = zip(*runs, strict=True)
    # A mark after each row: rows of placeholders at equal distances.
    steps = {after - before for before, after in pairwise(starts)}
    if len(runs) > 1 and len(set(lengths)) == 1 and len(steps) == 1:
        return TokenGrid(0, len(runs), lengths[0], steps.pop())
    if len(runs) > 1:
        raise ValueError(f"expected rows of equal lengths, found {len(runs)} runs of tokens")
    n_tokens = lengths[0]
    if grid := _exact_grid(n_tokens, rows, cols):
        return grid
    # Sides that are no multiples of what is merged are rounded, one way or the other.
    # About so many patches a side go into one token.
    side = (rows * cols / n_tokens) ** 0.5
    for n_rows in range(max(1, int(rows / side)), int(rows / side) + 2):
        n_cols, remainder = divmod(n_tokens, n_rows)
        if not remainder and abs(n_rows * side - rows) < side and abs(n_cols * side - cols) < side:
            return TokenGrid(0, n_rows, n_cols, n_cols)
    raise ValueError(
        f"expected tokens in a grid of the tower's {rows} x {cols} or a part of it, found "
        f"{n_tokens}"
    )


def _exact_grid(n_tokens: int, rows: int, cols: int) -> TokenGrid | None:
    """Return the grid of exactly the given aspect that has so many tokens, if there is one: of
    placeholders alone, after a class token, or with a newline after each row that is a placeholder.
    """
    # Grids of the tower's aspect: all multiples of its smallest one.
    divisor = gcd(rows, cols)
    for n_rows, n_cols in (
        (rows * n // divisor, cols * n // divisor) for n in range(1, divisor + 1)
    ):
        for start, row_stride in ((0, n_cols), (1, n_cols), (0, n_cols + 1)):
            # The last newline may be left out.
            if n_tokens - start in {n_rows * row_stride, n_rows * row_stride - row_stride + n_cols}:
                return TokenGrid(start, n_rows, n_cols, row_stride)
    return None


def shown(
    pixels_of: Callable[[Image.Image], torch.Tensor], image_wh_px: tuple[int, int]
) -> Rectangle:
    """Return the rectangle of a picture, in its pixels, that a tower's input (row, col) shows; it
    reaches beyond the picture where that is padded.

    Ramps of gray across and down tell where each column and row of the input comes from.
    """
    width, height = image_wh_px
    # Levels of black and white, between which every other gray lies.
    black, white = (
        _gray(pixels_of, np.full((height, width), level, np.float64)) for level in (0, 255)
    )
    # What is padded has one color whatever the picture.
    contrast = white - black
    is_shown = contrast > contrast.max() / 2
    # Gray that rises across tells where a column comes from, gray that rises down a row.
    edges: list[float] = []
    for axis, length in ((1, width), (0, height)):
        ramp = np.expand_dims(_ramp(length), 1 - axis)
        levels = _gray(pixels_of, np.broadcast_to(ramp, (height, width))) - black
        # As a share of the ramp: 0 at the picture's edge, 1 at the other.
        share = np.where(is_shown, levels / np.where(is_shown, contrast, 1), np.nan)
        edges += [length * edge for edge in _edges(share, axis)]
    x0, x1, y0, y1 = edges
    return x0, y0, x1, y1


def _ramp(length: int) -> Any:
    return (np.arange(length) + 0.5) / length * 255


def _gray(pixels_of: Callable[[Image.Image], torch.Tensor], gray: Any) -> Any:
    """Return a tower's input (row, col) of a gray picture, averaged over its colors."""
    picture = Image.fromarray(np.rint(gray).astype(np.uint8)).convert("RGB")
    pixels = pixels_of(picture).to(torch.float64)
    return pixels.flatten(0, -3).mean(0).numpy()


def _edges(share: Any, axis: int) -> tuple[float, float]:
    """Return where, as shares of a picture's side, an input begins and ends whose (row, col) come
    from these shares of it; NaN where they come from nowhere.
    """
    centers = (np.arange(share.shape[axis]) + 0.5) / share.shape[axis]
    across = np.moveaxis(share, axis, 0)
    has_any = ~np.isnan(across).all(axis=1)
    # The outermost pixels are mixed with what lies beyond.
    inner = np.flatnonzero(has_any)[1:-1]
    # The line through the inner pixels goes on to where the input begins and ends.
    slope, first = np.polyfit(centers[inner], np.nanmean(across[inner], axis=1), 1)
    return float(first), float(first + slope)


def cover_of(
    seen_xyxy_px: Rectangle, image_wh_px: tuple[int, int], crops: Sequence[Rectangle]
) -> Rectangle:
    """Return the first rectangle of known forms that lies where a measured one does: the whole
    picture, those given, or a square that the picture is padded to; else the measured one.
    """
    width, height = map(float, image_wh_px)
    side = max(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    # Exact forms are preferred to what was measured, which is rounded.
    forms = (
        (0.0, 0.0, width, height),
        *crops,
        (left, top, left + side, top + side),
        (0.0, 0.0, side, side),
    )
    limits = (width, height, width, height)
    for form in forms:
        differences = zip(form, seen_xyxy_px, limits, strict=True)
        if all(abs(edge - seen) <= TOLERANCE * limit for edge, seen, limit in differences):
            return form
    x0, y0, x1, y1 = (round(edge, 3) for edge in seen_xyxy_px)
    return x0, y0, x1, y1
