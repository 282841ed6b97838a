"""From a scene to pixels, masks, parts, boxes and keypoints. Drawn at twice the size, then reduced."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw

from kvtool.demo.shapes import Points, parts, shapes
from kvtool.demo.world import COLORS, Scene, Thing, sample_scene

INK, PAPER = (28, 26, 30), (252, 250, 244)
GROUND: dict[str, tuple[tuple[int, int, int], tuple[int, int, int], float]] = {
    # Color above, color below, height of the horizon as a fraction of the picture.
    "field": ((196, 222, 240), (172, 204, 140), 0.35),
    "sea": ((206, 230, 244), (120, 180, 206), 0.25),
    "desert": ((238, 226, 200), (226, 196, 148), 0.4),
    "snow": ((190, 204, 222), (218, 226, 236), 0.3),
    "room": ((214, 196, 190), (164, 134, 116), 0.72),
    "sky": ((150, 196, 240), (188, 218, 246), 0.5),
}
OVERSAMPLING = 2


@dataclass(frozen=True)
class Rendered:
    """A drawn scene, (H, W) of its own size.

    `thing_map`: 0 background, else index + 1 of the thing seen there. `part_map`: 0 background, else 1-based index
    into `shapes.parts(category)` of that thing. `boxes_xyxy_px`: per thing, of its visible pixels, the right and
    bottom edge exclusive; None where nothing of it is visible. `keypoints_xy_px`: per thing, part name ->
    (x, y, visible). `class_map`: of streets, the 19 train ids; None otherwise.
    """

    image: npt.NDArray[np.uint8]
    thing_map: npt.NDArray[np.uint8]
    part_map: npt.NDArray[np.uint8]
    boxes_xyxy_px: tuple[tuple[int, int, int, int] | None, ...]
    keypoints_xy_px: tuple[dict[str, tuple[float, float, bool]], ...]
    class_map: npt.NDArray[np.uint8] | None = None


def pose(thing: Thing, points: Points) -> Points:
    """Points (n, 2) of the unit box, carried into the scene: mirror, scale, turn, move. In pixels."""
    angle = np.deg2rad(thing.angle_deg)
    cosine, sine = np.cos(angle), np.sin(angle)
    x = points[:, 0] * (-1 if thing.mirror else 1) * thing.scale_px
    y = points[:, 1] * thing.scale_px
    placed: Points = np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1) + np.asarray(
        thing.center_xy_px
    )
    return placed


RASTER_SIDE = 200


@cache
def _raster(category: str) -> npt.NDArray[np.uint8]:
    """The unit box in 200 x 200 pixels: 1-based part numbers, 0 where there is nothing."""
    raster = Image.new("L", (RASTER_SIDE, RASTER_SIDE))
    painter = ImageDraw.Draw(raster)
    for piece in shapes()[category]:
        corners = [(RASTER_SIDE * (x + 0.5), RASTER_SIDE * (y + 0.5)) for x, y in piece.outline]
        painter.polygon(corners, fill=parts(category).index(piece.part) + 1)
    return np.asarray(raster)


@cache
def area_fraction(category: str) -> float:
    """Area of a category's shape over the area of its unit box."""
    return float((_raster(category) > 0).mean())


@cache
def keypoint_offsets(category: str) -> dict[str, tuple[float, float]]:
    """Each part's keypoint in the unit box: the point of its visible area nearest to the middle of its first piece."""
    offsets: dict[str, tuple[float, float]] = {}
    for index, name in enumerate(parts(category)):
        first = next(piece for piece in shapes()[category] if piece.part == name)
        x, y = RASTER_SIDE * (first.points().mean(axis=0) + 0.5)
        # Deep inside a part rather than on its rim: drawn small, the rim may belong to a neighbor.
        rows, columns = np.nonzero(_eroded(_raster(category) == index + 1))
        nearest = int(((columns - x) ** 2 + (rows - y) ** 2).argmin())
        column, row = float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5
        offsets[name] = (column / RASTER_SIDE - 0.5, row / RASTER_SIDE - 0.5)
    return offsets


def _eroded(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask shrunk as far as something remains of it (at most 8 pixels)."""
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
    """A tile of stripes or dots, 255 where the second shade goes."""
    rows, columns = np.mgrid[:512, :512]
    if name == "striped":
        tile = (rows + columns) % period < period // 2
    else:
        across = (rows % period - period / 2) ** 2 + (columns % period - period / 2) ** 2
        tile = across < (0.34 * period) ** 2
    return Image.fromarray(np.where(tile, 255, 0).astype(np.uint8))


def _mix(
    color: tuple[int, int, int], other: tuple[int, int, int], share: float
) -> tuple[int, int, int]:
    r, g, b = (round(c + share * (o - c)) for c, o in zip(color, other, strict=True))
    return r, g, b


def _shades(color: tuple[int, int, int]) -> dict[str, tuple[int, int, int]]:
    return {
        "main": color,
        "dark": _mix(color, (0, 0, 0), 0.28),
        "light": _mix(color, (255, 255, 255), 0.3),
        "ink": INK,
        "paper": PAPER,
        # The second shade of a texture must show on black too.
        "texture": _mix(color, (0, 0, 0), 0.5)
        if sum(color) > 200
        else _mix(color, (255, 255, 255), 0.45),
    }


def background(scene_place: str, size_wh: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """The place without things: two tones, a horizon, and a soft noise. At the drawing's size."""
    width, height = size_wh
    above, below, horizon = GROUND[scene_place]
    line = int(height * (horizon + rng.uniform(-0.08, 0.08)))
    coarse = rng.normal(0, 5, size=(7, 9, 3)) + rng.normal(0, 4, size=(1, 1, 3))
    noise = np.asarray(
        Image.fromarray((coarse + 128).clip(0, 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BILINEAR
        ),
        dtype=np.int16,
    )
    picture = noise - 128
    picture[:line] += np.asarray(above, dtype=np.int16)
    picture[line:] += np.asarray(below, dtype=np.int16)
    if scene_place == "sea":
        picture[line::9] += 14
    elif scene_place == "room":
        picture[line:, ::14] -= 12
    elif scene_place == "field":
        picture[line::3, ::7] -= 14
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _draw_thing(
    canvas: Image.Image, marks: Image.Image, thing: Thing, index: int, style: str
) -> None:
    """Draw one thing on the canvas and its (thing, part) number on `marks`, both at the drawing's size."""
    shades = _shades(COLORS[thing.color])
    painter, marker = ImageDraw.Draw(canvas), ImageDraw.Draw(marks)
    line = {"outlined": INK, "pale": _mix(shades["dark"], (90, 90, 90), 0.5)}.get(
        style, _mix(shades["main"], (0, 0, 0), 0.55)
    )
    line_px = 3 if style == "outlined" else 1
    names = parts(thing.category)
    half = int(0.75 * thing.scale_px * OVERSAMPLING) + 2
    left, top = (int(c * OVERSAMPLING) - half for c in thing.center_xy_px)
    mask = Image.new("L", (2 * half, 2 * half))
    masker = ImageDraw.Draw(mask)
    for piece in shapes()[thing.category]:
        points = pose(thing, piece.points()) * OVERSAMPLING
        corners = [(float(x), float(y)) for x, y in points]
        painter.polygon(corners, fill=shades[piece.shade], outline=line, width=line_px)
        marker.polygon(corners, fill=16 * (index + 1) + names.index(piece.part) + 1)
        masker.polygon(
            [(x - left, y - top) for x, y in corners], fill=255 if piece.shade == "main" else 0
        )
    if thing.texture != "plain":
        period = max(4, 2 * round(thing.scale_px * OVERSAMPLING * 0.075))
        pattern = _texture(thing.texture, period).crop((0, 0, 2 * half, 2 * half))
        canvas.paste(shades["texture"], (left, top), ImageChops.multiply(mask, pattern))


def _finish(
    canvas: Image.Image, size_wh: tuple[int, int], time: str, style: str
) -> npt.NDArray[np.uint8]:
    """Reduce to the scene's size and apply what concerns the whole picture: style and night."""
    if style == "mosaic":
        blocks = tuple(max(1, side // 3) for side in size_wh)
        small = canvas.resize((blocks[0], blocks[1]), Image.Resampling.BOX).resize(
            size_wh, Image.Resampling.NEAREST
        )
    else:
        small = canvas.reduce(OVERSAMPLING)
    pixels = np.asarray(small, dtype=np.float32)
    if style == "pale":
        pixels = pixels * 0.62 + 92
    if time == "night":
        pixels = pixels * np.asarray([0.56, 0.58, 0.68], dtype=np.float32)
    return pixels.clip(0, 255).astype(np.uint8)


def render(scene: Scene) -> Rendered:
    """Draw the scene. The same scene gives the same pixels."""
    width, height = scene.size_wh
    full = (width * OVERSAMPLING, height * OVERSAMPLING)
    canvas = background(scene.place, full, np.random.default_rng(scene.seed))
    marks = Image.new("L", full)
    for index, thing in enumerate(scene.things):
        _draw_thing(canvas, marks, thing, index, scene.style)
    numbers = np.asarray(marks)[
        OVERSAMPLING // 2 :: OVERSAMPLING, OVERSAMPLING // 2 :: OVERSAMPLING
    ]
    thing_map = numbers // 16
    return Rendered(
        image=_finish(canvas, scene.size_wh, scene.time, scene.style),
        thing_map=thing_map,
        part_map=numbers % 16,
        boxes_xyxy_px=tuple(mask_box(thing_map == index + 1) for index in range(len(scene.things))),
        keypoints_xy_px=tuple(
            _keypoints(thing, thing_map, index) for index, thing in enumerate(scene.things)
        ),
    )


def visible_enough(scene: Scene, rendered: Rendered, fraction: float = 0.45) -> bool:
    """Whether every thing shows at least that fraction of its own area (hidden or cut off by the picture's edge)."""
    areas = np.bincount(rendered.thing_map.ravel(), minlength=len(scene.things) + 1)[1:]
    return all(
        area >= fraction * area_fraction(thing.category) * thing.scale_px**2
        for area, thing in zip(areas, scene.things, strict=True)
    )


def sample_rendered(rng: np.random.Generator, **wanted: Any) -> tuple[Scene, Rendered]:
    """A random scene in which every thing can be seen, with its drawing. `wanted` as for `sample_scene`."""
    while True:
        scene = sample_scene(rng, **wanted)
        rendered = render(scene)
        if visible_enough(scene, rendered):
            return scene, rendered


def mask_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """(x0, y0, x1, y1) around the true pixels, the far edges exclusive; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _keypoints(
    thing: Thing, thing_map: npt.NDArray[np.uint8], index: int
) -> dict[str, tuple[float, float, bool]]:
    offsets = keypoint_offsets(thing.category)
    places = pose(thing, np.asarray(list(offsets.values())))
    height, width = thing_map.shape
    found = {}
    for name, (x, y) in zip(offsets, places, strict=True):
        inside = 0 <= x < width and 0 <= y < height
        found[name] = (float(x), float(y), bool(inside and thing_map[int(y), int(x)] == index + 1))
    return found
