"""Street scenes with the 19 train ids of BDD and Cityscapes: city or highway, day or night."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from kvtool.demo.draw import OVERSAMPLING, Color, Rendered

TRAIN_IDS = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
KINDS = ("city street", "highway")
PAINTS: tuple[Color, ...] = (
    (222, 38, 38),
    (36, 84, 220),
    (246, 246, 246),
    (250, 224, 40),
    (34, 34, 38),
    (34, 160, 60),
)
WALLS: tuple[Color, ...] = ((176, 120, 100), (170, 160, 150), (140, 130, 150))
GRAY: Color = (90, 90, 90)
TREE: Color = (60, 130, 60)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Street:
    """A street to draw: its kind is one of KINDS, its time is day or night.

    Everything else follows from the seed. The size is in pixels.
    """

    size_wh: tuple[int, int]
    kind: str
    time: str
    seed: int


def sample_street(
    rng: np.random.Generator,
    *,
    size_wh: tuple[int, int],
    kind: str | None = None,
    time: str | None = None,
) -> Street:
    """Draw a random street, of which the caller may fix kind and time."""
    return Street(
        size_wh=size_wh,
        kind=kind or KINDS[rng.integers(2)],
        time=time or ("day", "night")[rng.integers(2)],
        seed=int(rng.integers(2**31)),
    )


class _Painter:
    """Draws each polygon twice: its color on the canvas, and its train id on the marks.

    Coordinates run from 0 to 1, whatever the size of the picture.
    """

    def __init__(self, size_wh: tuple[int, int], rng: np.random.Generator):
        self.rng = rng
        self.width = size_wh[0] * OVERSAMPLING
        self.height = size_wh[1] * OVERSAMPLING
        self.canvas = Image.new("RGB", (self.width, self.height))
        self.marks = Image.new("L", (self.width, self.height), 255)
        self._canvas = ImageDraw.Draw(self.canvas)
        self._marks = ImageDraw.Draw(self.marks)

    def polygon(self, name: str, color: Color, *corners: float) -> None:
        """Fill the polygon with the corners x0, y0, x1, y1, ... with a class's color."""
        points = [
            (x * self.width, y * self.height)
            for x, y in zip(corners[::2], corners[1::2], strict=True)
        ]
        self._canvas.polygon(points, fill=color)
        self._marks.polygon(points, fill=TRAIN_IDS.index(name))

    def box(self, name: str, color: Color, box: Box) -> None:
        """Fill the box (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = box
        self.polygon(name, color, x0, y0, x1, y0, x1, y1, x0, y1)

    def disc(self, name: str, color: Color, x: float, y: float, radius: float) -> None:
        """Fill a disc of twelve corners; the radius is a fraction of the picture's width."""
        ratio = self.width / self.height
        turns = np.linspace(0, 2 * np.pi, 13)[:-1]
        corners = np.stack([x + radius * np.cos(turns), y + radius * ratio * np.sin(turns)], axis=1)
        self.polygon(name, color, *corners.ravel().tolist())

    def shade(self, color: Color, spread: int = 16) -> Color:
        """Vary each channel of the color at random."""
        r, g, b = (
            int(np.clip(channel + self.rng.integers(-spread, spread + 1), 0, 255))
            for channel in color
        )
        return r, g, b


def render_street(street: Street) -> Rendered:
    """Draw the street; `class_map` holds the train ids, and every pixel has one.

    A street has no things and no keypoints.
    """
    rng = np.random.default_rng(street.seed)
    # Later shapes hide earlier ones, from the sky to the traffic.
    painter = _Painter(street.size_wh, rng)
    horizon = float(rng.uniform(0.38, 0.5))
    painter.box("sky", painter.shade((160, 200, 240)), (0, 0, 1, 1))
    if street.kind == "city street":
        _city(painter, horizon)
    else:
        _highway(painter, horizon)
    _traffic(painter, horizon, street.kind)
    pixels = np.asarray(painter.canvas.reduce(OVERSAMPLING), dtype=np.float32)
    # Noise and night change colors alone: the class map stays.
    pixels = pixels + rng.normal(0, 3, size=pixels.shape).astype(np.float32)
    if street.time == "night":
        pixels = pixels * np.asarray([0.4, 0.42, 0.55], dtype=np.float32)
    empty = np.zeros(pixels.shape[:2], dtype=np.uint8)
    return Rendered(
        image=pixels.clip(0, 255).astype(np.uint8),
        thing_map=empty,
        part_map=empty.copy(),
        boxes_xyxy_px=(),
        keypoints_xy_px=(),
        class_map=np.asarray(painter.marks)[1::OVERSAMPLING, 1::OVERSAMPLING].copy(),
    )


def _city(painter: _Painter, horizon: float) -> None:
    """Draw houses, two trees, the sidewalk with the road on it, poles and people."""
    rng = painter.rng
    x = -0.05
    while x < 1.0:
        width = float(rng.uniform(0.14, 0.26))
        _house(painter, x, width, horizon)
        x += width
    for x_tree in rng.uniform(0, 1, size=2):
        painter.disc("vegetation", painter.shade(TREE), float(x_tree), horizon - 0.04, 0.06)
    # The road lies on the sidewalk, narrow at the horizon.
    painter.box("sidewalk", painter.shade((190, 180, 180)), (0, horizon + 0.04, 1, 1))
    curb = horizon + 0.04
    road = (0.42, curb, 0.6, curb, 0.95, 1, 0.08, 1)
    painter.polygon("road", painter.shade((96, 96, 102)), *road)
    for spot in rng.uniform(0.02, 0.98, size=2):
        # Poles stand on the sidewalk: the outer thirds of the picture.
        x_pole = float(spot) * 0.3 if spot < 0.5 else 1 - (1 - float(spot)) * 0.3
        _pole(painter, x_pole, horizon)
    for _ in range(rng.integers(1, 4)):
        _person(painter, horizon)


def _house(painter: _Painter, x: float, width: float, horizon: float) -> None:
    top = float(painter.rng.uniform(0.02, horizon - 0.1))
    wall = painter.shade(WALLS[painter.rng.integers(3)])
    painter.box("building", wall, (x, top, x + width, horizon + 0.06))
    # Rows of lit windows.
    for row in np.arange(top + 0.05, horizon - 0.05, 0.1):
        for column in np.arange(x + 0.03, x + width - 0.03, 0.07):
            painter.box("building", (230, 220, 150), (column, row, column + 0.03, row + 0.04))


def _pole(painter: _Painter, x: float, horizon: float) -> None:
    """Draw a pole with a traffic light or a sign."""
    painter.box("pole", GRAY, (x, 0.1, x + 0.014, horizon + 0.2))
    if painter.rng.random() < 0.6:
        painter.box("traffic light", (30, 40, 30), (x - 0.014, 0.1, x + 0.028, 0.24))
        painter.disc("traffic light", (230, 60, 50), x + 0.007, 0.14, 0.012)
    else:
        painter.disc("traffic sign", (240, 210, 60), x + 0.007, 0.14, 0.03)


def _person(painter: _Painter, horizon: float) -> None:
    rng = painter.rng
    x = float(rng.choice([rng.uniform(0.02, 0.2), rng.uniform(0.82, 0.96)]))
    foot = horizon + float(rng.uniform(0.2, 0.4))
    shirt = PAINTS[rng.integers(len(PAINTS))]
    painter.box("person", (40, 40, 80), (x - 0.018, foot - 0.1, x + 0.018, foot))
    painter.box("person", shirt, (x - 0.024, foot - 0.2, x + 0.024, foot - 0.1))
    painter.disc("person", (230, 190, 160), x, foot - 0.22, 0.02)


def _highway(painter: _Painter, horizon: float) -> None:
    """Draw trees on the horizon, fields, the road with rails and lane marks, and maybe a sign."""
    rng = painter.rng
    for x_tree in rng.uniform(0, 1, size=6):
        leaves = painter.shade(TREE)
        painter.disc("vegetation", leaves, float(x_tree), horizon, float(rng.uniform(0.05, 0.1)))
    painter.box("terrain", painter.shade((170, 180, 110)), (0, horizon, 1, 1))
    road = (0.36, horizon, 0.64, horizon, 1.3, 1, -0.3, 1)
    painter.polygon("road", painter.shade((110, 110, 116)), *road)
    for side in (-1, 1):
        front = 0.5 + side * 0.8
        back = 0.5 + side * 0.15
        rail = (back, horizon - 0.02, back, horizon + 0.01, front, 0.86, front, 0.74)
        painter.polygon("wall", (200, 196, 186), *rail)
    # Lane marks are road to the class map, as in BDD.
    for lane in (-0.12, 0.12):
        top = horizon + 0.02
        far_end = (0.5 + lane * 0.3, top, 0.505 + lane * 0.3, top)
        mark = (*far_end, 0.52 + lane * 2.2, 1, 0.49 + lane * 2.2, 1)
        painter.polygon("road", (235, 235, 230), *mark)
    if rng.random() < 0.7:
        painter.box("pole", GRAY, (0.2, 0.12, 0.215, horizon + 0.02))
        painter.box("traffic sign", (40, 130, 80), (0.2, 0.1, 0.42, 0.2))


def _traffic(painter: _Painter, horizon: float, kind: str) -> None:
    """Draw two to four vehicles, the far ones first."""
    depths = painter.rng.uniform(0.1, 0.85, size=painter.rng.integers(2, 5))
    for depth in sorted(depths.tolist()):
        _vehicle(painter, horizon, kind, depth)


def _vehicle(painter: _Painter, horizon: float, kind: str, depth: float) -> None:
    """Draw a car, a truck or a bus; a depth of 0 is at the horizon, and 1 is in front."""
    rng = painter.rng
    # The nearer a vehicle, the lower and larger it is, and the farther from the middle it may be.
    foot = horizon + 0.06 + depth * (0.9 - horizon)
    width = 0.08 + 0.2 * depth
    spread = 0.08 + depth * (0.3 if kind == "city street" else 0.42)
    x = float(rng.uniform(0.5 - spread, 0.5 + spread)) - width / 2
    ratio = painter.width / painter.height
    paint = PAINTS[rng.integers(len(PAINTS))]
    height = width * ratio
    name = str(rng.choice(["car", "car", "car", "truck", "bus"]))
    top = foot - height * (0.66 if name == "car" else 1.15)
    middle = foot - height * 0.38
    # The upper half: a cabin with slanted pillars, or the whole width of a bus or a load.
    if name == "car":
        cabin = (x + 0.2 * width, top, x + 0.8 * width, top, x + width, middle, x, middle)
        painter.polygon(name, paint, *cabin)
    else:
        upper = paint if name == "bus" else (226, 226, 220)
        painter.box(name, upper, (x, top, x + width, middle))
    painter.box(name, paint, (x, middle, x + width, foot - height * 0.06))
    if name == "truck":
        glass = (middle - 0.02, middle + 0.1 * height)
    else:
        glass = (top + 0.05 * height, middle)
    painter.box(name, (200, 225, 235), (x + 0.25 * width, glass[0], x + 0.75 * width, glass[1]))
    for wheel in (0.2, 0.8):
        painter.disc(name, (24, 24, 26), x + wheel * width, foot - height * 0.06, 0.09 * width)
