"""Marks on a picture: a ring around a point and its name beside it, in red on white, sized by the
picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import dist

from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Box = tuple[float, float, float, float]

COLOR = (225, 20, 50)
HALO = (255, 255, 255)
RING = 0.025
NAME = 0.07
"""Radius of a ring and height of a letter, as shares of the picture's shorter side."""
BESIDE = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
"""Directions in which a name may stand, the first of equals first."""
INNER = 0.71
"""Half a circle's inscribed square, in radii: a name at a corner may reach into the ring's box that
far."""
CLEAR = 4.0
"""Radii from a name to another point that are far enough."""
LEAST_RADIUS_PX = 3.0
LEAST_LETTER_PX = 10.0


@dataclass(frozen=True)
class PointMark:
    """A ring around point_px and a name within name_xyxy_px; both reach no further than their
    boxes."""

    name: str
    point_px: Point
    ring_xyxy_px: Box
    name_xyxy_px: Box


def ring_radius_px(wh_px: tuple[int, int]) -> float:
    """Return the radius of a ring with its halo."""
    return max(LEAST_RADIUS_PX, RING * min(wh_px)) + 2 * _line_px(wh_px)


def place_marks(
    points_px: Sequence[Point], names: Sequence[str], wh_px: tuple[int, int]
) -> list[PointMark]:
    """Place a ring and a name for each point.

    Names stand beside their rings, inside the picture, where they cover least of other marks and
    are as far from other points as makes no doubt whose they are.
    """
    radius = ring_radius_px(wh_px)
    rings = [_around(point, radius) for point in points_px]
    marks: list[PointMark] = []
    for number, (name, point, ring) in enumerate(zip(names, points_px, rings, strict=True)):
        other_rings = [other_ring for index, other_ring in enumerate(rings) if index != number]
        # Of its own ring a name must leave the inscribed square free, not the corners around it.
        occupied = [
            _around(point, INNER * radius),
            *other_rings,
            *(mark.name_xyxy_px for mark in marks),
        ]
        boxes = _places(ring, _name_size_px(name, wh_px), wh_px)
        marks.append(
            PointMark(name, point, ring, _clearest(boxes, other_rings, occupied, CLEAR * radius))
        )
    return marks


def _clearest(
    boxes: Sequence[Box], other_rings: Sequence[Box], occupied: Sequence[Box], clear_px: float
) -> Box:
    """Return the first box that covers least of the occupied ones, and of those is furthest from
    other rings.

    Distances count up to clear_px.
    """

    def key(box: Box) -> tuple[float, float]:
        """Return the covered area, and the distance to the next ring, negated."""
        away = min(
            (dist(_center(box), _center(other_box)) for other_box in other_rings), default=clear_px
        )
        return sum(_overlap(box, other_box) for other_box in occupied), -min(away, clear_px)

    return min(boxes, key=key)


def draw_marks(image: Image.Image, marks: Sequence[PointMark]) -> Image.Image:
    """Return a copy with the marks on it; nothing changes outside their boxes."""
    # A picture that is RGB already would be drawn on itself.
    canvas = image.convert("RGB")
    canvas = canvas.copy() if canvas is image else canvas
    painter = ImageDraw.Draw(canvas)
    line = _line_px(image.size)
    font = _font(image.size)
    for mark in marks:
        x0, y0, x1, y1 = mark.ring_xyxy_px
        painter.ellipse((x0, y0, x1, y1), outline=HALO, width=3 * line)
        painter.ellipse((x0 + line, y0 + line, x1 - line, y1 - line), outline=COLOR, width=line)
    for mark in marks:
        # A font draws a name some way off the corner it is given: that is taken back.
        ink_x, ink_y, _, _ = font.getbbox(mark.name, stroke_width=line)
        corner_px = (mark.name_xyxy_px[0] - ink_x, mark.name_xyxy_px[1] - ink_y)
        painter.text(
            corner_px, mark.name, fill=COLOR, font=font, stroke_width=line, stroke_fill=HALO
        )
    return canvas


def _places(ring: Box, size_px: tuple[float, float], wh_px: tuple[int, int]) -> list[Box]:
    """Return boxes of a size that touch a ring's circle, the right one first, moved into the
    picture."""
    (x, y) = _center(ring)
    (width, height) = size_px
    radius = (ring[2] - ring[0]) / 2
    boxes: list[Box] = []
    for across, down in BESIDE:
        # Diagonally a name may reach into the ring's box, whose corner the circle leaves free.
        reach = radius * (INNER if across and down else 1.0)
        x_px = x + across * (reach + width / 2) - width / 2
        y_px = y + down * (reach + height / 2) - height / 2
        # The upper left edge comes last: a name that does not fit is cut at its end.
        x_px = max(0, round(min(x_px, wh_px[0] - width)))
        y_px = max(0, round(min(y_px, wh_px[1] - height)))
        boxes.append((x_px, y_px, x_px + width, y_px + height))
    return boxes


def _around(point: Point, reach: float) -> Box:
    return point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach


def _center(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _name_size_px(name: str, wh_px: tuple[int, int]) -> tuple[float, float]:
    x0, y0, x1, y1 = _font(wh_px).getbbox(name, stroke_width=_line_px(wh_px))
    return x1 - x0, y1 - y0


def _font(wh_px: tuple[int, int]) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=max(LEAST_LETTER_PX, NAME * min(wh_px)))
    assert isinstance(font, ImageFont.FreeTypeFont), (
        "Pillow's own font needs FreeType, which its wheels have"
    )
    return font


def _line_px(wh_px: tuple[int, int]) -> int:
    return max(1, round(0.005 * min(wh_px)))
