"""Tiles that are blocks of tokens of their own, one after the other, and the whole picture last."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.models.whole import Spans
from kvtool.types import GridSpan


def block_spans(
    image_wh_px: tuple[int, int], tiles: tuple[int, int], side: int, starts: Sequence[int]
) -> Spans:
    """Return the grids of a picture's tiles, row by row, and of the whole picture after them.

    Args:
        image_wh_px: The picture's size; it is resized to the tiles without regard to its aspect.
        tiles: Rows and columns of tiles; none where the picture was not cut.
        side: Tokens, or patches, along a side of a tile.
        starts: Where each block begins.
    """
    width, height = image_wh_px
    rows, cols = tiles
    # The picture is squeezed into the tiles: each covers its share of both sides.
    covers = [
        (
            width * col / cols,
            height * row / rows,
            width * (col + 1) / cols,
            height * (row + 1) / rows,
        )
        for row in range(rows)
        for col in range(cols)
    ]
    spans = [
        GridSpan("tiles", start, (side, side), side, cover)
        # The last start is the whole picture's, which the tiles leave over.
        for start, cover in zip(starts, covers, strict=False)
    ]
    cover = (0.0, 0.0, float(width), float(height))
    return (*spans, GridSpan("base", starts[-1], (side, side), side, cover))
