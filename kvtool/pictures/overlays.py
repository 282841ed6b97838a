"""What blocks predict, drawn over pictures: masks filled and outlined, matches as lines between
two.

Colors are Okabe and Ito's, which the color-blind can tell apart; what is right and what is wrong
differ in shape too. Every function gives a new picture and takes positions and masks in pixels of
the original image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Mask = NDArray[Any]
Color = tuple[int, int, int]
Point = tuple[float, float]

OBJECTS: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
"""Colors of the objects: object 1 has the first; after the last they begin again."""
RIGHT = (0, 158, 115)
WRONG = (213, 94, 0)
TRUTH = (255, 255, 255)
CASING = (0, 0, 0)
PAPER = (255, 255, 255)
TINT = 0.5
VOID = 255

SMOOTHING = 3
"""Lines are drawn so many times as large and reduced, since Pillow's have jagged edges."""


def fit(image: Image.Image, side_px: int) -> Image.Image:
    """Return an image with its longer side side_px long, smaller or larger than it was."""
    scale = side_px / max(image.size)
    wh_px = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(wh_px, Image.Resampling.LANCZOS)


def gray(picture: Image.Image) -> Image.Image:
    """Return a picture without its colors, so that those laid over it are the only ones."""
    return picture.convert("L").convert("RGB")


def draw_masks(
    picture: Image.Image, predicted: Mask | None, truth: Mask | None = None
) -> Image.Image:
    """Draw the objects of a prediction as colors with an edge, and the outlines of those of the
    truth.

    Masks are object ids (height, width) of the original image's size, or any of its shape;
    `picture` may be a scaled one. 0 is background, 255 void.
    """
    pixels = np.asarray(picture.convert("RGB"), np.float64).copy()
    width_px = max(1, round(max(picture.size) / 200))
    for number, mask in _objects(predicted, picture.size):
        color = np.array(OBJECTS[(number - 1) % len(OBJECTS)], float)
        pixels[mask] = (1 - TINT) * pixels[mask] + TINT * color
        pixels[_edge(mask, width_px)] = color
    for _, mask in _objects(truth, picture.size):
        # A black casing, so that the white line shows on bright pictures too.
        pixels[_edge(~mask, width_px)] = CASING
        pixels[_edge(mask, width_px)] = TRUTH
    return Image.fromarray(pixels.round().astype(np.uint8))


def _objects(ids: Mask | None, wh_px: tuple[int, int]) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return each object's id and its pixels in a picture of a size."""
    if ids is None:
        return []
    # The nearest id, as a mean of two would be a third object's.
    resized = np.asarray(
        Image.fromarray(ids.astype(np.uint8)).resize(wh_px, Image.Resampling.NEAREST)
    )
    return [
        (number, resized == number)
        for number in np.unique(resized).tolist()
        if number not in (0, VOID)
    ]


def _edge(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """Return the pixels of a mask with others within width_px, in steps to the side.

    The picture's border is no edge.
    """
    # Erode the mask step by step: what is lost is its edge.
    inner = mask
    for _ in range(width_px):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~inner
    return edge


def draw_matches(
    pictures: tuple[Image.Image, Image.Image],
    sizes_px: tuple[tuple[int, int], tuple[int, int]],
    source_px: Sequence[Point],
    found_px: Sequence[Point],
    true_px: Sequence[Point],
    right: Sequence[bool],
) -> Image.Image:
    """Draw two pictures side by side and a line from each source point to the matched point.

    A right match is a solid line that ends in a disc, a wrong one a broken line that ends in a
    cross; a ring marks the true point, and a thin line leads to it from what is wrong. sizes_px are
    width and height of the originals, whose pixels the points are in.
    """
    canvas = side_by_side(pictures)
    source_scale, target_scale = (
        picture.width / wh[0] for picture, wh in zip(pictures, sizes_px, strict=True)
    )
    start_px = canvas.width - pictures[1].width

    def draw(pen: Pen) -> None:
        """Draw rings, then errors, lines and ends."""
        # Into pixels of the canvas: each picture has its scale, the second its offset.
        ends = [
            (
                (a[0] * source_scale, a[1] * source_scale),
                (start_px + b[0] * target_scale, b[1] * target_scale),
            )
            for a, b in zip(source_px, found_px, strict=True)
        ]
        # Rings lie below and ends on top, so that no line hides where a match ends.
        for x, y in true_px:
            pen.ring((start_px + x * target_scale, y * target_scale))
        for (_, b), (x, y), is_right in zip(ends, true_px, right, strict=True):
            if not is_right:
                pen.error(b, (start_px + x * target_scale, y * target_scale))
        for (a, b), is_right in zip(ends, right, strict=True):
            pen.stroke(a, b, is_right)
        for (a, b), is_right in zip(ends, right, strict=True):
            pen.ends(a, b, is_right)

    return over(canvas, draw)


def side_by_side(pictures: Sequence[Image.Image], gap_px: int = 8) -> Image.Image:
    """Put pictures in a row, their upper edges level."""
    width = sum(picture.width for picture in pictures) + gap_px * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER)
    x = 0
    for picture in pictures:
        row.paste(picture, (x, 0))
        x += picture.width + gap_px
    return row


def over(picture: Image.Image, draw: Callable[[Pen], None]) -> Image.Image:
    """Draw smooth lines and marks over a picture."""
    layer = Image.new("RGBA", (picture.width * SMOOTHING, picture.height * SMOOTHING), (*TRUTH, 0))
    draw(Pen(ImageDraw.Draw(layer), max(picture.size) / 1000))
    reduced = layer.resize(picture.size, Image.Resampling.BOX)
    return Image.alpha_composite(picture.convert("RGBA"), reduced).convert("RGB")


@dataclass(frozen=True)
class Pen:
    """Draws on a layer SMOOTHING times as large as the picture; positions are the picture's.

    `unit` scales all sizes.
    """

    canvas: ImageDraw.ImageDraw
    unit: float

    def stroke(self, start: Point, stop: Point, right: bool) -> None:
        """Draw the line of a match: solid where it is right, else broken."""
        pieces = [(start, stop)] if right else dashes(start, stop, 12 * self.size, 8 * self.size)
        # The dark casing first, wider, so that it shows on both sides.
        for width, color in ((3.8, CASING), (2.2, RIGHT if right else WRONG)):
            for a, b in pieces:
                self.line(a, b, color, width)

    def error(self, point: Point, true: Point) -> None:
        """Draw a thin line from a wrong point to the ring around the true one."""
        length = hypot(true[0] - point[0], true[1] - point[1])
        # The line stops at the ring.
        share = max(0.0, 1 - 12 * self.size / length) if length else 0.0
        stop = point[0] + share * (true[0] - point[0]), point[1] + share * (true[1] - point[1])
        for width, color in ((3.0, CASING), (1.4, TRUTH)):
            self.line(point, stop, color, width)

    def ends(self, start: Point, stop: Point, right: bool) -> None:
        """Draw the points of a match: a disc at its start, a larger one or a cross at its end."""
        color = RIGHT if right else WRONG
        self.disc(start, 5, color)
        if right:
            self.disc(stop, 6.5, color)
        else:
            self.cross(stop, 7, color)

    @property
    def size(self) -> float:
        """The scale of a line's width: 1 where the picture is 1000 px wide, never much less."""
        return max(0.6, self.unit)

    def line(self, a: Point, b: Point, color: Color, width: float) -> None:
        """Draw a line."""
        ends = [tuple(SMOOTHING * value for value in point) for point in (a, b)]
        self.canvas.line(
            ends, fill=(*color, 255), width=max(1, round(width * self.size * SMOOTHING))
        )

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """Draw a disc with a casing."""
        self._ellipse(center, radius + 1.2, CASING)
        self._ellipse(center, radius, color)

    def ring(self, center: Point) -> None:
        """Draw a ring with a casing."""
        for radius, width, color in ((13.0, 5.0, CASING), (12.0, 3.0, TRUTH)):
            box = self._box(center, radius)
            px = max(1, round(width * self.size * SMOOTHING))
            self.canvas.ellipse(box, outline=(*color, 255), width=px)

    def cross(self, center: Point, radius: float, color: Color) -> None:
        """Draw a cross with a casing."""
        x, y = center
        arm = radius * self.size
        for ink, width in ((CASING, 5.4), (color, 3.2)):
            self.line((x - arm, y - arm), (x + arm, y + arm), ink, width)
            self.line((x - arm, y + arm), (x + arm, y - arm), ink, width)

    def _ellipse(self, center: Point, radius: float, color: Color) -> None:
        self.canvas.ellipse(self._box(center, radius), fill=(*color, 255))

    def _box(self, center: Point, radius: float) -> tuple[float, float, float, float]:
        x, y, r = (SMOOTHING * value for value in (*center, radius * self.size))
        return x - r, y - r, x + r, y + r


def dashes(a: Point, b: Point, on_px: float, off_px: float) -> list[tuple[Point, Point]]:
    """Return the pieces of a broken line from a to b; the last one ends at b."""
    length = hypot(b[0] - a[0], b[1] - a[1])
    if length <= on_px:
        return [(a, b)]

    def point_at(distance: float) -> Point:
        """Return the point at a distance from a."""
        share = max(0.0, distance) / length
        return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])

    # Counted from the end, where a piece has to arrive.
    stops = np.arange(length, 0, -(on_px + off_px)).tolist()
    return [(point_at(stop - on_px), point_at(stop)) for stop in reversed(stops)]


def mask_marks(n_objects: int = 1) -> list[tuple[Image.Image, str]]:
    """Return the marks of draw_masks and their meanings, for a sheet's legend."""
    gray = Image.new("RGB", (26, 22), (150, 150, 150))
    inside = np.zeros((22, 26), np.uint8)
    inside[4:18, 4:22] = 1
    object_marks = [
        (draw_masks(gray, inside * number), number) for number in range(1, n_objects + 1)
    ]
    labeled = [
        (mark, "predicted" if n_objects == 1 else f"object {number}, predicted")
        for mark, number in object_marks
    ]
    return [*labeled, (draw_masks(gray, None, inside), "truth")]


def match_marks(right: str = "right", wrong: str = "wrong") -> list[tuple[Image.Image, str]]:
    """Return the marks of draw_matches and their meanings, for a sheet's legend."""
    paper = Image.new("RGB", (72, 24), PAPER)
    start = (8.0, 12.0)
    stop = (62.0, 12.0)

    def match(is_right: bool) -> Image.Image:
        """Draw a short match."""

        def draw(pen: Pen) -> None:
            """Draw the match from left to right."""
            pen.stroke(start, stop, is_right)
            pen.ends(start, stop, is_right)

        return over(paper, draw)

    ring = over(Image.new("RGB", (24, 24), (150, 150, 150)), lambda pen: pen.ring((12.0, 12.0)))
    return [(match(True), right), (match(False), wrong), (ring, "truth")]
