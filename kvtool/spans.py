"""Where the tokens of a picture lie on it, and the frames of a video.

Pixels are those of the original image after EXIF rotation, x to the right, y down, and (0, 0) is
the upper left corner of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class GridSpan:
    """A rectangular grid of tokens within one image's tokens, and the pixels it covers.

    Attributes:
        name: "base" (the whole image at the tower's size; each view has one such grid, which may
            stand after the others) or "tiles" (the high resolution part of the full view, in one
            grid or one a tile).
        start: index of the grid's first token among the image's tokens. Tokens that are of no grid
            may stand between two of them.
        row_stride: tokens from one row to the next: cols, or cols + 1 where a newline token ends
            each row.
        cover_xyxy_px: the rectangle of the original image that the grid covers; it reaches beyond
            the image where the model pads and stays inside where it crops.
        frames: of a video, the indices of the frames that the grid's tokens show together.
    """

    name: Literal["base", "tiles", "frame"]
    start: int
    grid: tuple[int, int]
    row_stride: int
    cover_xyxy_px: tuple[float, float, float, float]
    frames: tuple[int, ...] = ()

    def cell_at(self, x_px: float, y_px: float) -> tuple[int, int]:
        """Return the (row, col) of the cell that holds a pixel position; positions outside go to
        the nearest cell.
        """
        x0, y0, x1, y1 = self.cover_xyxy_px
        rows, cols = self.grid
        col = int((x_px - x0) / (x1 - x0) * cols // 1)
        row = int((y_px - y0) / (y1 - y0) * rows // 1)
        return min(max(row, 0), rows - 1), min(max(col, 0), cols - 1)

    def covers(self, x_px: float, y_px: float) -> bool:
        """Tell whether a pixel position lies inside the grid's cover."""
        x0, y0, x1, y1 = self.cover_xyxy_px
        return x0 <= x_px < x1 and y0 <= y_px < y1

    def token_at(self, x_px: float, y_px: float) -> int:
        """Index, among the image's tokens, of the token over a pixel position."""
        row, col = self.cell_at(x_px, y_px)
        return self.start + row * self.row_stride + col

    def centre_px(self, row: int, col: int) -> tuple[float, float]:
        """Return the (x, y) of the center of a cell in pixels of the original image."""
        x0, y0, x1, y1 = self.cover_xyxy_px
        rows, cols = self.grid
        return x0 + (col + 0.5) * (x1 - x0) / cols, y0 + (row + 0.5) * (y1 - y0) / rows

    def token_indices(self) -> list[int]:
        """Return the indices of the grid's tokens in row-major order, newline tokens left out."""
        rows, cols = self.grid
        return [self.start + r * self.row_stride + c for r in range(rows) for c in range(cols)]


@dataclass(frozen=True)
class Frame:
    """A frame of a video that a model was given in one context with the others.

    Attributes:
        id: of its picture, e.g. "bike-packing/00000".
        second: when it stands, counted from the video's begin.
        digest, stamp: of its picture's file, as those of a Sample; empty for a frame of a video
            file, whose digest and stamp the sample has.
    """

    id: str
    second: float
    digest: str = ""
    stamp: tuple[int, ...] = ()
