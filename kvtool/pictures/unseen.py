"""What a model never saw of a picture, where it crops: hatched in every drawing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from kvtool.types import GridSpan

LINES = 24
"""So many lines of the hatching across the longer side of a picture."""
SHADE = 0.45
"""How much of a picture's light is left between the lines."""
LEGEND = "outside what the model saw"


def mark_unseen(image: Image.Image, span: GridSpan | None) -> Image.Image:
    """Return a picture with what lies outside a grid's cover darkened and hatched.

    A picture that the grid covers, or that has none, is returned as it is.
    """
    outside = None if span is None else _outside(image.size, span)
    if outside is None or not outside.any():
        return image
    pixels = np.asarray(image.convert("RGB")).astype(np.float64)
    step = max(4, max(image.size) // LINES)
    rows, cols = np.indices(outside.shape, sparse=True)
    # Diagonal lines, a third of their distance wide.
    on_line = (rows + cols) % step < max(1, step // 3)
    shaded = pixels * SHADE + np.where(on_line, 90.0, 0.0)[..., None]
    pixels[outside] = shaded[outside]
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def any_unseen(spans: Mapping[str, GridSpan], sizes: Mapping[str, tuple[int, int]]) -> bool:
    """Tell whether some image of known (width, height) has pixels outside its grid's cover."""
    return any(_outside(sizes[image], span).any() for image, span in spans.items())


def unseen_mark() -> tuple[Image.Image, str]:
    """Return the mark of unseen parts and its meaning, for a sheet's legend."""
    gray = Image.new("RGB", (26, 22), (150, 150, 150))
    return mark_unseen(gray, GridSpan("base", 0, (1, 1), 1, (0.0, 0.0, 0.0, 0.0))), LEGEND


def _outside(
    wh_px: tuple[int, int], span: GridSpan
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return (height, width), True where a pixel's center lies outside the cover."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    x = np.arange(wh_px[0]) + 0.5
    y = np.arange(wh_px[1]) + 0.5
    seen: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = np.outer(
        (y0 <= y) & (y < y1), (x0 <= x) & (x < x1)
    )
    return ~seen
