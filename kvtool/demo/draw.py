"""From a scene to pixels, masks, parts, boxes and keypoints.

Everything is drawn at twice the size of the scene and then reduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from kvtool.demo.shapes import Points, parts, shapes
from kvtool.demo.world import COLORS, Scene, Thing, sample_scene

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

INK: Color = (28, 26, 30)
PAPER: Color = (252, 250, 244)
GROUND: dict[str, tuple[Color, Color, float]] = {
    "field": ((196, 222, 240), (172, 204, 140), 0.35),
    "sea": ((206, 230, 244), (120, 180, 206), 0.25),
    "desert": ((238, 226, 200), (226, 196, 148), 0.4),
    "snow": ((190, 204, 222), (218, 226, 236), 0.3),
    "room": ((214, 196, 190), (164, 134, 116), 0.72),
    "sky": ((150, 196, 240), (188, 218, 246), 0.5),
}
"""Place -> the color above, the color below, and where between them the horizon is (0 to 1)."""
OVERSAMPLING = 2
RASTER_SIDE = 200
MARKS_A_THING = 16
"""A mark is this times (thing index + 1), plus the number of the part: one byte holds both."""


@dataclass(frozen=True)
class Rendered:
    """A drawn scene; all maps are (H, W) of its own size.

    Attributes:
        image: The pixels (H, W, 3).
        thing_map: 0 is background; other values are index + 1 of the thing that is seen there.
        part_map: 0 is background; other values count `shapes.parts(category)` of that thing from 1.
        boxes_xyxy_px: For each thing the box around its visible pixels, with the right and bottom
            edge exclusive, or None where nothing of it is visible.
        keypoints_xy_px: For each thing its part names with (x, y, visible).
        class_map: The 19 train ids of a street; None for other scenes.
    """

    image: Bytes
    thing_map: Bytes
    part_map: Bytes
    boxes_xyxy_px: tuple[Box | None, ...]
    keypoints_xy_px: tuple[dict[str, tuple[float, float, bool]], ...]
    class_map: Bytes | None = None


def pose(thing: Thing, points: Points) -> Points:
    """Carry points (n, 2) of the unit box into the scene, in pixels: mirror, scale, turn, move."""
    angle = np.deg2rad(thing.angle_deg)
    cosine = np.cos(angle)
    sine = np.sin(angle)
    x = points[:, 0] * (-1 if thing.mirror else 1) * thing.scale_px
    y = points[:, 1] * thing.scale_px
    turned: Points = np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)
    posed: Points = turned + np.asarray(thing.center_xy_px)
    return posed


@cache
def _raster(category: str) -> Bytes:
    """Draw the unit box in 200 x 200 pixels: part numbers from 1, and 0 where there is nothing."""
    raster = Image.new("L", (RASTER_SIDE, RASTER_SIDE))
    painter = ImageDraw.Draw(raster)
    for piece in shapes()[category]:
        corners = [(RASTER_SIDE * (x + 0.5), RASTER_SIDE * (y + 0.5)) for x, y in piece.outline]
        painter.polygon(corners, fill=parts(category).index(piece.part) + 1)
    return np.asarray(raster)


@cache
def area_fraction(category: str) -> float:
    """Divide the area of a category's shape by the area of its unit box."""
    return float((_raster(category) > 0).mean())


@cache
def keypoint_offsets(category: str) -> dict[str, tuple[float, float]]:
    """Return each part's keypoint in the unit box.

    It is the point of the part's visible area that is nearest to the middle of its first piece.
    """
    offsets: dict[str, tuple[float, float]] = {}
    for index, name in enumerate(parts(category)):
        first = next(piece for piece in shapes()[category] if piece.part == name)
        x, y = RASTER_SIDE * (first.points().mean(axis=0) + 0.5)
        # Deep inside a part rather than on its rim: drawn small, the rim may belong to a neighbor.
        rows, columns = np.nonzero(_eroded(_raster(category) == index + 1))
        nearest = int(((columns - x) ** 2 + (rows - y) ** 2).argmin())
        column = float(columns[nearest]) + 0.5
        row = float(rows[nearest]) + 0.5
        offsets[name] = (column / RASTER_SIDE - 0.5, row / RASTER_SIDE - 0.5)
    return offsets


def _eroded(mask: Mask) -> Mask:
    """Shrink the mask (H, W) by at most 8 pixels, as far as something remains of it."""
    for _ in range(8):
        smaller = mask.copy()
        smaller[1:] &= mask[:-1]
        smaller[:-1] &= mask[1:]
        smaller[:, 1:] &= mask[:, :-1]
        smaller[:, :-1] &= mask[:, 1:]
        if not smaller.any():
            break
        mask = smaller
    return mask


@cache
def _texture(name: str, period: int) -> Image.Image:
    """Draw a tile of stripes or dots, 255 where the second shade goes."""
    rows, columns = np.mgrid[:512, :512]
    if name == "striped":
        tile = (rows + columns) % period < period // 2
    else:
        distance = (rows % period - period / 2) ** 2 + (columns % period - period / 2) ** 2
        tile = distance < (0.34 * period) ** 2
    return Image.fromarray(np.where(tile, 255, 0).astype(np.uint8))


def _mix(color: Color, target: Color, share: float) -> Color:
    r, g, b = (round(c + share * (t - c)) for c, t in zip(color, target, strict=True))
    return r, g, b


def _shades(color: Color) -> dict[str, Color]:
    # The second shade of a texture must show on black too.
    if sum(color) > 200:
        texture = _mix(color, (0, 0, 0), 0.5)
    else:
        texture = _mix(color, (255, 255, 255), 0.45)
    return {
        "main": color,
        "dark": _mix(color, (0, 0, 0), 0.28),
        "light": _mix(color, (255, 255, 255), 0.3),
        "ink": INK,
        "paper": PAPER,
        "texture": texture,
    }


def background(scene_place: str, size_wh: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Draw the place without things, at the drawing's size: two tones, a horizon, a soft noise."""
    width, height = size_wh
    above, below, horizon = GROUND[scene_place]
    line = int(height * (horizon + rng.uniform(-0.08, 0.08)))
    # The noise is drawn coarse, and its enlargement makes it soft.
    coarse = rng.normal(0, 5, size=(7, 9, 3)) + rng.normal(0, 4, size=(1, 1, 3))
    noise = Image.fromarray((coarse + 128).clip(0, 255).astype(np.uint8))
    noise = noise.resize((width, height), Image.Resampling.BILINEAR)
    picture = np.asarray(noise, dtype=np.int16) - 128
    picture[:line] += np.asarray(above, dtype=np.int16)
    picture[line:] += np.asarray(below, dtype=np.int16)
    # Waves, floorboards, blades of grass.
    if scene_place == "sea":
        picture[line::9] += 14
    elif scene_place == "room":
        picture[line:, ::14] -= 12
    elif scene_place == "field":
        picture[line::3, ::7] -= 14
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _line_color(style: str, shades: dict[str, Color]) -> Color:
    if style == "outlined":
        return INK
    if style == "pale":
        return _mix(shades["dark"], (90, 90, 90), 0.5)
    return _mix(shades["main"], (0, 0, 0), 0.55)


def _draw_thing(
    canvas: Image.Image, marks: Image.Image, thing: Thing, index: int, style: str
) -> None:
    """Draw a thing on the canvas and its marks on `marks`, both at the size of the drawing."""
    shades = _shades(COLORS[thing.color])
    line_color = _line_color(style, shades)
    line_px = 3 if style == "outlined" else 1
    names = parts(thing.category)
    # The mask covers a square around the thing: only its main shade takes the texture.
    half = int(0.75 * thing.scale_px * OVERSAMPLING) + 2
    x0, y0 = (int(c * OVERSAMPLING) - half for c in thing.center_xy_px)
    mask = Image.new("L", (2 * half, 2 * half))
    painter = ImageDraw.Draw(canvas)
    marker = ImageDraw.Draw(marks)
    masker = ImageDraw.Draw(mask)
    for piece in shapes()[thing.category]:
        points = pose(thing, piece.points()) * OVERSAMPLING
        corners = [(float(x), float(y)) for x, y in points]
        painter.polygon(corners, fill=shades[piece.shade], outline=line_color, width=line_px)
        mark = MARKS_A_THING * (index + 1) + names.index(piece.part) + 1
        marker.polygon(corners, fill=mark)
        inside = [(x - x0, y - y0) for x, y in corners]
        masker.polygon(inside, fill=255 if piece.shade == "main" else 0)
    if thing.texture != "plain":
        period = max(4, 2 * round(thing.scale_px * OVERSAMPLING * 0.075))
        pattern = _texture(thing.texture, period).crop((0, 0, 2 * half, 2 * half))
        canvas.paste(shades["texture"], (x0, y0), ImageChops.multiply(mask, pattern))


def _finish(canvas: Image.Image, size_wh: tuple[int, int], time: str, style: str) -> Bytes:
    """Reduce the canvas to the scene's size and apply style and night to the picture."""
    if style == "mosaic":
        width, height = (max(1, side // 3) for side in size_wh)
        blocks = canvas.resize((width, height), Image.Resampling.BOX)
        small = blocks.resize(size_wh, Image.Resampling.NEAREST)
    else:
        small = canvas.reduce(OVERSAMPLING)
    # Style and night change colors alone, after all shapes are drawn.
    pixels = np.asarray(small, dtype=np.float32)
    if style == "pale":
        pixels = pixels * 0.62 + 92
    if time == "night":
        pixels = pixels * np.asarray([0.56, 0.58, 0.68], dtype=np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def render(scene: Scene) -> Rendered:
    """Draw the scene; the same scene gives the same pixels."""
    width, height = scene.size_wh
    canvas_wh = (width * OVERSAMPLING, height * OVERSAMPLING)
    canvas = background(scene.setting, canvas_wh, np.random.default_rng(scene.seed))
    marks = Image.new("L", canvas_wh)
    for index, thing in enumerate(scene.things):
        _draw_thing(canvas, marks, thing, index, scene.style)
    # Marks are ids, so that they are picked at the middle of each pixel, not averaged.
    middle = slice(OVERSAMPLING // 2, None, OVERSAMPLING)
    numbers = np.asarray(marks)[middle, middle]
    thing_map = numbers // MARKS_A_THING
    return Rendered(
        image=_finish(canvas, scene.size_wh, scene.time, scene.style),
        thing_map=thing_map,
        part_map=numbers % MARKS_A_THING,
        boxes_xyxy_px=tuple(mask_box(thing_map == index + 1) for index in range(len(scene.things))),
        keypoints_xy_px=tuple(
            _keypoints(thing, thing_map, index) for index, thing in enumerate(scene.things)
        ),
    )


def visible_enough(scene: Scene, rendered: Rendered, fraction: float = 0.45) -> bool:
    """Tell whether every thing shows at least that fraction of its own area.

    The rest may be hidden by another thing or cut off by the edge of the picture.
    """
    areas = np.bincount(rendered.thing_map.ravel(), minlength=len(scene.things) + 1)[1:]
    return all(
        area >= fraction * area_fraction(thing.category) * thing.scale_px**2
        for area, thing in zip(areas, scene.things, strict=True)
    )


def sample_rendered(rng: np.random.Generator, **options: Any) -> tuple[Scene, Rendered]:
    """Draw a random scene in which every thing can be seen; the options are `sample_scene`'s."""
    while True:
        scene = sample_scene(rng, **options)
        rendered = render(scene)
        if visible_enough(scene, rendered):
            return scene, rendered


def mask_box(mask: Mask) -> Box | None:
    """Return the box (x0, y0, x1, y1) of a mask (H, W), far edges exclusive; None if empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _keypoints(thing: Thing, thing_map: Bytes, index: int) -> dict[str, tuple[float, float, bool]]:
    """Pose the part's keypoints; one is visible where its pixel shows this thing."""
    offsets = keypoint_offsets(thing.category)
    # A keypoint moves with its part, and may leave the picture or lie behind another thing.
    points = pose(thing, np.asarray(list(offsets.values())))
    height, width = thing_map.shape
    keypoints = {}
    for name, (x, y) in zip(offsets, points, strict=True):
        inside = 0 <= x < width and 0 <= y < height
        visible = bool(inside and thing_map[int(y), int(x)] == index + 1)
        keypoints[name] = (float(x), float(y), visible)
    return keypoints
