"""Cells of a picture or a video changed one by one, to see which token shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from kvtool.models.base import Prepared
from kvtool.types import Frame, GridSpan, RunView

Stimulus = Image.Image | Sequence[Image.Image]
"""A picture, or the frames of a video."""
N_FILLINGS = 2
"""In how many ways a cell is filled."""


def prepare_stimulus(model: Any, stimulus: Stimulus, view: RunView) -> Prepared:
    """Return a picture, or a video of some frames a second each, made ready for a model."""
    if isinstance(stimulus, Image.Image):
        prepared: Prepared = model.prepare(stimulus, id="check", index=0, view=view)
        return prepared
    frames = [Frame(str(second), float(second)) for second in range(len(stimulus))]
    video: Prepared = model.prepare_video(stimulus, frames, 1.0, id="check", index=0)
    return video


def nine_cells(span: GridSpan, image_wh_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return up to nine (row, col) spread over what a grid shows of an image, its corners among
    them; none of a grid without rows or columns, as that of the tiles of a line of pixels.
    """
    if 0 in span.grid:
        return []
    width, height = image_wh_px
    # Cells whose center is padding show nothing that could be changed.
    rows = [row for row in range(span.grid[0]) if 0 <= span.centre_px(row, 0)[1] < height]
    cols = [col for col in range(span.grid[1]) if 0 <= span.centre_px(0, col)[0] < width]
    if not rows or not cols:
        return []
    spread = [sorted({n[0], n[len(n) // 2], n[-1]}) for n in (rows, cols)]
    return [(row, col) for row in spread[0] for col in spread[1]]


def changed_cell(stimulus: Stimulus, span: GridSpan, row: int, col: int) -> list[Stimulus]:
    """Return a picture with one cell filled in two ways; of a video, one way in the first frame of
    a grid, the other in its last.
    """
    if isinstance(stimulus, Image.Image):
        return list(refilled(stimulus, span, row, col))
    videos: list[Stimulus] = []
    for filling, frame in enumerate((span.frames[0], span.frames[-1])):
        pictures = list(stimulus)
        pictures[frame] = refilled(stimulus[frame], span, row, col)[filling]
        videos.append(pictures)
    return videos


def refilled(image: Image.Image, span: GridSpan, row: int, col: int) -> list[Image.Image]:
    """Return an image with one cell inverted, and with it filled by noise.

    White is no filling: to some towers it means so much that every token changes.
    """
    x0, y0, x1, y1 = span.cover_xyxy_px
    step_x, step_y = (x1 - x0) / span.grid[1], (y1 - y0) / span.grid[0]
    # Cells of fractional size are rounded to pixels, and have one at least.
    left, top = round(x0 + col * step_x), round(y0 + row * step_y)
    right, bottom = round(x0 + (col + 1) * step_x), round(y0 + (row + 1) * step_y)
    box = (left, top, max(right, left + 1), max(bottom, top + 1))
    shape = (box[3] - box[1], box[2] - box[0], 3)
    # The same noise each time, so that a check is the same when it is repeated.
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures = []
    for filling in (ImageOps.invert(image.crop(box)), Image.fromarray(noise)):
        picture = image.copy()
        picture.paste(filling, box)
        pictures.append(picture)
    return pictures
