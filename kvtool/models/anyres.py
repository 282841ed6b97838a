"""Geometry of the LLaVA families' views: which pixels of the original image each grid of tokens
covers.

Base view: the whole image squeezed into one square of the tower's size. Tiles: the image fitted
into the best of the checkpoint's resolutions, centered on padding, cut into squares of the tower's
size; their tokens are stitched into one grid, rows and columns of padding are dropped
("un-padded"), and a newline token ends each row. The arithmetic is that of transformers'
pack_image_features and unpad_image, rounding included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kvtool.types import GridSpan


@dataclass(frozen=True)
class Tower:
    """image_px: side of a tile; patch_px: side of a patch.

    What is left of image_px / patch_px is never seen.
    """

    image_px: int
    patch_px: int

    @property
    def side(self) -> int:
        """Tokens along a tile's side."""
        return self.image_px // self.patch_px

    @property
    def seen(self) -> float:
        """Share of a tile's side that its patches cover: 378 of 384 pixels for patches of 14."""
        return self.side * self.patch_px / self.image_px

    def stretch_px(self, tiles: int) -> tuple[float, float]:
        """Extent in pixels of the stitched grid along an axis of `tiles` tiles.

        The unseen rest ends every tile, so that the stitched cells are not quite even. An even grid
        over the tiles, moved back by half the rest, is off by at most half the rest (3 of 384
        pixels); one tile alone is exact.
        """
        padding_px = self.image_px - self.side * self.patch_px
        if tiles == 1:
            return 0.0, float(self.image_px - padding_px)
        return -padding_px / 2, tiles * self.image_px - padding_px / 2


def base_span(image_wh_px: tuple[int, int], tower: Tower) -> GridSpan:
    """Return the base view's grid."""
    width, height = image_wh_px
    # Pixels after the last whole patch are never seen: the grid covers a little less.
    cover = (0.0, 0.0, width * tower.seen, height * tower.seen)
    return GridSpan("base", 0, (tower.side, tower.side), tower.side, cover)


def moved_span(span: GridSpan, right_px: float, down_px: float) -> GridSpan:
    """A grid over the same pixels of a picture whose origin moved."""
    x0, y0, x1, y1 = span.cover_xyxy_px
    cover = (x0 + right_px, y0 + down_px, x1 + right_px, y1 + down_px)
    return replace(span, cover_xyxy_px=cover)


@dataclass(frozen=True)
class Tiling:
    """An image fitted into `tiles` (rows, cols) of a tower's size."""

    image_wh_px: tuple[int, int]
    tiles: tuple[int, int]
    tower: Tower

    def _fitted_wh_px(self) -> tuple[int, int]:
        """Size the image is resized to within the tiles, its aspect ratio kept."""
        width, height = self.image_wh_px
        full_height, full_width = (n * self.tower.image_px for n in self.tiles)
        scale_x, scale_y = full_width / width, full_height / height
        # The smaller scale fits the image into the tiles; the other side is rounded up and cut to
        # them.
        if scale_x < scale_y:
            return full_width, min(math.ceil(height * scale_x), full_height)
        return min(math.ceil(width * scale_y), full_width), full_height

    def _original_px(self, position_px: float, axis: int) -> float:
        """Return a position within the tiles, on axis 0 (x) or 1 (y), in pixels of the original
        image.
        """
        fitted = self._fitted_wh_px()[axis]
        # The fitted image stands centered in the tiles, its padding rounded down as in
        # transformers.
        offset = (self.tiles[1 - axis] * self.tower.image_px - fitted) // 2
        return (position_px - offset) * self.image_wh_px[axis] / fitted

    def padding(self) -> tuple[int, int]:
        """Return (rows, cols) of tokens dropped at each end."""
        width, height = self.image_wh_px
        rows, cols = (n * self.tower.side for n in self.tiles)
        # A wide image has padding above and below, a tall one at its sides: only one axis loses
        # tokens.
        if width / height > cols / rows:
            return (rows - int(round(height * (cols / width), 7))) // 2, 0
        return 0, (cols - int(round(width * (rows / height), 7))) // 2

    def whole_span(self, start: int) -> GridSpan:
        """Return all tokens of the tiles, stitched, padding kept: the tower's view."""
        return self._span(start, (0, 0), None, newline=0)

    def packed_span(self, start: int, max_tiles: int | None) -> GridSpan:
        """Return the tokens a decoder gets: un-padded, shrunk where they exceed max_tiles squares,
        a newline per row.
        """
        return self._span(start, self.padding(), max_tiles, newline=1)

    def _span(
        self, start: int, padding: tuple[int, int], max_tiles: int | None, newline: int
    ) -> GridSpan:
        side = self.tower.side
        # What is left of the grid once the padding is cut off both of its ends.
        content = [self.tiles[axis] * side - 2 * padding[axis] for axis in (0, 1)]
        rows, cols = content
        # transformers shrinks a grid of many tokens only where it exceeds the limit by a tenth.
        if max_tiles is not None:
            ratio = math.sqrt(rows * cols / (max_tiles * side**2))
            if ratio > 1.1:
                rows, cols = int(rows // ratio), int(cols // ratio)
        cover = [0.0] * 4
        # Rows are axis 0 of tiles, x is axis 0 of pixels: hence 1 - axis.
        for axis in (0, 1):  # 0 is x
            tokens, low = self.tiles[1 - axis] * side, padding[1 - axis]
            begin, end = self.tower.stretch_px(self.tiles[1 - axis])
            # Dropped tokens move the edges inward by as many steps of the grid.
            step = (end - begin) / tokens
            cover[axis] = self._original_px(begin + low * step, axis)
            cover[axis + 2] = self._original_px(end - low * step, axis)
        return GridSpan(
            "tiles", start, (rows, cols), cols + newline, (cover[0], cover[1], cover[2], cover[3])
        )
