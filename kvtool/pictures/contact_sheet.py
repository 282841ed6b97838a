"""Contact sheets: pictures in rows with captions, a title, and what the marks in them mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

INK = (30, 30, 30)
PAPER = (255, 255, 255)
MARGIN_PX = 24
GAP_PX = 20
TITLE_PX = 26
CAPTION_PX = 19
LINE_SPACING = 1.35


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet and the lines below it."""

    picture: Image.Image
    caption: tuple[str, ...] = ()


class ContactSheet:
    """Tiles in rows, all cells of the largest one's size, under a title, with a legend of marks
    below."""

    def __init__(
        self,
        tiles: Sequence[Tile],
        columns: int,
        title: str,
        legend: Sequence[tuple[Image.Image, str]] = (),
    ) -> None:
        self.columns = min(columns, len(tiles))
        self.cell_px = (
            max(tile.picture.width for tile in tiles),
            max(tile.picture.height for tile in tiles),
        )
        # Captions are as high as the longest one.
        lines = max(len(tile.caption) for tile in tiles)
        self.row_px = self.cell_px[1] + round(lines * CAPTION_PX * LINE_SPACING) + GAP_PX
        width = 2 * MARGIN_PX + self.columns * (self.cell_px[0] + GAP_PX) - GAP_PX
        # Title and legend are wrapped to the width, and tell the height.
        titles = wrap(title, font(TITLE_PX), width - 2 * MARGIN_PX)
        keys = _legend_rows(legend, width - 2 * MARGIN_PX)
        self.top_px = MARGIN_PX + round(len(titles) * TITLE_PX * LINE_SPACING) + GAP_PX // 2
        # The rows of tiles are as many as it takes, rounded up.
        below = self.top_px + -(-len(tiles) // self.columns) * self.row_px
        key_px = round(CAPTION_PX * 1.7)
        self.picture = Image.new(
            "RGB", (width, below + len(keys) * key_px + MARGIN_PX - GAP_PX * (not keys)), PAPER
        )
        self._pen = ImageDraw.Draw(self.picture)
        for number, line in enumerate(titles):
            self._write(
                (MARGIN_PX, MARGIN_PX + round(number * TITLE_PX * LINE_SPACING)), line, TITLE_PX
            )
        for index, tile in enumerate(tiles):
            self._paste(index, tile)
        for number, row in enumerate(keys):
            for x, mark, text in row:
                y = below + number * key_px
                self.picture.paste(mark, (MARGIN_PX + x, y + (key_px - mark.height) // 2))
                self._write(
                    (MARGIN_PX + x + mark.width + 8, y + (key_px - CAPTION_PX) // 2),
                    text,
                    CAPTION_PX,
                )

    def corner_px(self, index: int) -> tuple[int, int]:
        """Return the upper left corner of a tile."""
        row, column = divmod(index, self.columns)
        return MARGIN_PX + column * (self.cell_px[0] + GAP_PX), self.top_px + row * self.row_px

    def _paste(self, index: int, tile: Tile) -> None:
        x, y = self.corner_px(index)
        self.picture.paste(tile.picture, (x, y))
        for number, text in enumerate(tile.caption):
            top = y + tile.picture.height + 4 + round(number * CAPTION_PX * LINE_SPACING)
            self._write((x, top), shorten(text, font(CAPTION_PX), self.cell_px[0]), CAPTION_PX)

    def _write(self, xy: tuple[int, int], text: str, size_px: int) -> None:
        self._pen.text(xy, text, fill=INK, font=font(size_px))


def font(size_px: int) -> Any:
    """Return Pillow's typeface."""
    return ImageFont.load_default(size_px)


def shorten(text: str, face: Any, width_px: float) -> str:
    """Return a text on one line, cut with an ellipsis where it is too long."""
    line = " ".join(text.split())
    if face.getlength(line) <= width_px:
        return line
    while line and face.getlength(line + "...") > width_px:
        line = line[:-1]
    return line.rstrip() + "..."


def wrap(text: str, face: Any, width_px: float) -> list[str]:
    """Return a text in lines of a width, broken between words; a word that is too long is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and face.getlength(longer) <= width_px:
            lines[-1] = longer
        else:
            lines.append(shorten(word, face, width_px))
    return lines


def _legend_rows(
    legend: Sequence[tuple[Image.Image, str]], width_px: int
) -> list[list[tuple[int, Image.Image, str]]]:
    """Return (x, mark, text) in rows that fit a width."""
    rows: list[list[tuple[int, Image.Image, str]]] = []
    x = 0
    for mark, text in legend:
        needed = mark.width + 8 + round(font(CAPTION_PX).getlength(text))
        if not rows or x + needed > width_px:
            rows.append([])
            x = 0
        rows[-1].append((x, mark, text))
        x += needed + 36
    return rows
