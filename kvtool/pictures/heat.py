"""How strongly something stands at each patch of a picture, laid over it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kvtool.pictures.overlays import fit, gray

Numbers = NDArray[Any]

HOT = (213, 94, 0)
"""Okabe and Ito's vermilion: apart from the gray of the picture for all eyes."""
STRONGEST = 0.8
"""How much of the strongest patch's color covers the picture."""


def draw_heat(
    image: Image.Image,
    values: Numbers,
    cover_xyxy_px: tuple[float, float, float, float],
    side_px: int,
) -> Image.Image:
    """Draw an image in gray, its patches the redder the larger their value.

    The strongest patch is the reddest, and a value of 0, or less, has no color.

    Args:
        image: The picture.
        values: A number a patch, (row, col); NaN where none is known, which stays as it is.
        cover_xyxy_px: The part of the picture that the patches cover, which may reach beyond it.
        side_px: The longer side of what is drawn.
    """
    picture = fit(gray(image), side_px)
    scale = picture.width / image.width
    # What is not known, or not positive, has no color.
    strengths = np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0).clip(min=0.0)
    strongest = strengths.max(initial=0.0)
    shares = STRONGEST * strengths / strongest if strongest > 0 else strengths
    return Image.composite(
        Image.new("RGB", picture.size, HOT),
        picture,
        _mask(shares, [scale * edge for edge in cover_xyxy_px], picture.size),
    )


def _mask(shares: Numbers, cover_xyxy: list[float], wh_px: tuple[int, int]) -> Image.Image:
    """Return how much color each pixel gets, 0 to 255; none beyond the patches' part."""
    x0, y0, x1, y1 = cover_xyxy
    rows, cols = shares.shape
    # Whole pixels that neighbors share: no gap between patches, and no overlap.
    xs = np.rint(np.linspace(x0, x1, cols + 1)).astype(int).tolist()
    ys = np.rint(np.linspace(y0, y1, rows + 1)).astype(int).tolist()
    mask = Image.new("L", wh_px, 0)
    pen = ImageDraw.Draw(mask)
    for (row, col), share in np.ndenumerate(shares):
        # The last pixel of a rectangle of Pillow's belongs to it.
        box = (xs[col], ys[row], xs[col + 1] - 1, ys[row + 1] - 1)
        if box[2] >= box[0] and box[3] >= box[1]:
            pen.rectangle(box, fill=round(255 * float(share)))
    return mask
