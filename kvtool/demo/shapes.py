"""The 24 object categories of the scenes world: polygons with a part name, in a unit box.

A category is drawn back to front as a list of `Piece`s. Coordinates run from -0.5 to 0.5, x to the right and y
down, before mirroring, scaling and rotation. Every piece belongs to a named part, and every part has one keypoint
(draw.py). `shade` says which color the piece takes: `main` (the thing's color, with its texture), `dark` and `light`
(shades of it), `ink` (near black) or `paper` (near white).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShapePiece:
    """One polygon: `part` it belongs to, its `shade`, and its `outline` (n, 2) in the unit box."""

    part: str
    shade: str
    outline: tuple[tuple[float, float], ...]

    def points(self) -> Points:
        return np.asarray(self.outline, dtype=np.float64)


def _polygon(part: str, shade: str, *coordinates: float) -> ShapePiece:
    return ShapePiece(part, shade, tuple(zip(coordinates[::2], coordinates[1::2], strict=True)))


def _ellipse(
    part: str, shade: str, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0
) -> ShapePiece:
    """Sixteen points of an ellipse turned by `turn` degrees."""
    ry = rx if ry is None else ry
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    outline = []
    for step in range(16):
        u, v = rx * math.cos(step * math.pi / 8), ry * math.sin(step * math.pi / 8)
        outline.append((x + u * cosine - v * sine, y + u * sine + v * cosine))
    return ShapePiece(part, shade, tuple(outline))


def _bar(
    part: str, shade: str, x0: float, y0: float, x1: float, y1: float, width: float
) -> ShapePiece:
    """A straight stroke of the given width from one point to another."""
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return _polygon(
        part, shade, x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy
    )


def _box(part: str, shade: str, x0: float, y0: float, x1: float, y1: float) -> ShapePiece:
    return _polygon(part, shade, x0, y0, x1, y0, x1, y1, x0, y1)


def _animals() -> dict[str, list[ShapePiece]]:
    return {
        "bird": [
            _polygon("tail", "dark", -0.5, -0.02, -0.2, 0.02, -0.22, 0.16, -0.46, 0.16),
            _bar("leg", "ink", 0.0, 0.2, 0.0, 0.46, 0.06),
            _ellipse("body", "main", -0.03, 0.08, 0.28, 0.19, -15),
            _polygon("wing", "dark", -0.14, -0.02, 0.1, 0.02, 0.0, 0.2, -0.32, -0.36),
            _ellipse("head", "main", 0.24, -0.14, 0.14),
            _polygon("beak", "ink", 0.36, -0.2, 0.5, -0.12, 0.36, -0.06),
        ],
        "butterfly": [
            _ellipse("upper-wing", "main", -0.25, -0.2, 0.25, 0.19, 35),
            _ellipse("upper-wing", "main", 0.25, -0.2, 0.25, 0.19, -35),
            _ellipse("lower-wing", "light", -0.19, 0.22, 0.18, 0.15, -45),
            _ellipse("lower-wing", "light", 0.19, 0.22, 0.18, 0.15, 45),
            _bar("antenna", "ink", -0.02, -0.3, -0.14, -0.5, 0.04),
            _bar("antenna", "ink", 0.02, -0.3, 0.14, -0.5, 0.04),
            _ellipse("body", "ink", 0.0, 0.05, 0.055, 0.32),
            _ellipse("head", "ink", 0.0, -0.28, 0.08),
        ],
        "cat": [
            _polygon("ear", "dark", -0.4, -0.46, -0.08, -0.28, -0.36, -0.04),
            _polygon("ear", "dark", 0.4, -0.46, 0.08, -0.28, 0.36, -0.04),
            _ellipse("head", "main", 0.0, 0.06, 0.42, 0.36),
            _ellipse("eye", "paper", -0.17, -0.04, 0.09),
            _ellipse("eye", "paper", 0.17, -0.04, 0.09),
            _polygon("nose", "ink", -0.07, 0.12, 0.07, 0.12, 0.0, 0.2),
            _bar("whisker", "ink", -0.16, 0.18, -0.5, 0.1, 0.03),
            _bar("whisker", "ink", 0.16, 0.18, 0.5, 0.1, 0.03),
            _ellipse("mouth", "light", 0.0, 0.28, 0.13, 0.06),
        ],
        "crab": [
            _bar("leg", "dark", -0.2, 0.14, -0.42, 0.36, 0.07),
            _bar("leg", "dark", 0.2, 0.14, 0.42, 0.36, 0.07),
            _bar("leg", "dark", -0.1, 0.18, -0.2, 0.42, 0.07),
            _bar("leg", "dark", 0.1, 0.18, 0.2, 0.42, 0.07),
            _bar("arm", "dark", -0.22, 0.02, -0.4, -0.2, 0.08),
            _bar("arm", "dark", 0.22, 0.02, 0.4, -0.2, 0.08),
            _polygon(
                "claw",
                "main",
                -0.4,
                -0.12,
                -0.5,
                -0.3,
                -0.44,
                -0.46,
                -0.38,
                -0.3,
                -0.26,
                -0.42,
                -0.26,
                -0.22,
            ),
            _polygon(
                "claw",
                "main",
                0.4,
                -0.12,
                0.5,
                -0.3,
                0.44,
                -0.46,
                0.38,
                -0.3,
                0.26,
                -0.42,
                0.26,
                -0.22,
            ),
            _ellipse("body", "main", 0.0, 0.1, 0.32, 0.18),
            _ellipse("eye", "paper", -0.1, -0.1, 0.07),
            _ellipse("eye", "paper", 0.1, -0.1, 0.07),
        ],
        "fish": [
            _polygon("tail", "dark", -0.22, 0.0, -0.5, -0.26, -0.42, 0.0, -0.5, 0.26),
            _polygon("fin", "dark", -0.06, -0.16, 0.16, -0.2, -0.08, -0.36),
            _ellipse("body", "main", 0.08, 0.0, 0.36, 0.22),
            _polygon("belly", "light", -0.04, 0.12, 0.2, 0.13, 0.08, 0.21),
            _polygon("mouth", "ink", 0.36, 0.0, 0.48, 0.05, 0.36, 0.1),
            _ellipse("eye", "paper", 0.27, -0.07, 0.06),
        ],
        "rabbit": [
            _ellipse("ear", "main", -0.02, -0.3, 0.07, 0.2, -12),
            _ellipse("ear", "dark", 0.14, -0.3, 0.07, 0.2, 14),
            _ellipse("tail", "paper", -0.36, 0.24, 0.11),
            _ellipse("body", "main", -0.1, 0.22, 0.28, 0.24),
            _ellipse("foot", "light", 0.08, 0.43, 0.18, 0.06),
            _ellipse("head", "main", 0.12, -0.06, 0.18, 0.16),
            _ellipse("eye", "ink", 0.18, -0.09, 0.045),
        ],
        "snail": [
            _polygon(
                "body", "light", -0.5, 0.36, -0.3, 0.24, 0.2, 0.24, 0.3, 0.0, 0.44, 0.02, 0.42, 0.36
            ),
            _bar("antenna", "ink", 0.38, 0.04, 0.48, -0.2, 0.05),
            _bar("antenna", "ink", 0.33, 0.04, 0.32, -0.22, 0.05),
            _ellipse("shell", "main", -0.08, 0.02, 0.3, 0.3),
            _ellipse("spiral", "dark", -0.06, 0.04, 0.15),
            _ellipse("centre", "paper", -0.06, 0.04, 0.06),
            _ellipse("head", "light", 0.38, 0.08, 0.1),
        ],
        "turtle": [
            _polygon("tail", "light", -0.38, 0.12, -0.5, 0.24, -0.34, 0.22),
            _box("leg", "light", -0.32, 0.14, -0.16, 0.4),
            _box("leg", "light", 0.08, 0.14, 0.24, 0.4),
            _polygon(
                "shell",
                "main",
                -0.42,
                0.2,
                -0.36,
                -0.1,
                -0.2,
                -0.28,
                0.04,
                -0.28,
                0.2,
                -0.1,
                0.28,
                0.2,
            ),
            _box("rim", "dark", -0.42, 0.14, 0.28, 0.22),
            _ellipse("head", "light", 0.38, 0.04, 0.13, 0.11),
            _ellipse("eye", "ink", 0.42, 0.01, 0.035),
        ],
    }


def _plants_and_tools() -> dict[str, list[ShapePiece]]:
    return {
        "flower": [
            _bar("stem", "ink", 0.0, 0.0, 0.0, 0.5, 0.06),
            _ellipse("leaf", "dark", 0.14, 0.34, 0.15, 0.06, -30),
            *[
                _ellipse(
                    "petal",
                    "main",
                    0.22 * math.cos(k * math.pi / 3),
                    -0.2 + 0.22 * math.sin(k * math.pi / 3),
                    0.14,
                )
                for k in range(6)
            ],
            _ellipse("centre", "paper", 0.0, -0.2, 0.12),
        ],
        "mushroom": [
            _polygon("stem", "paper", -0.11, 0.0, 0.11, 0.0, 0.15, 0.44, -0.15, 0.44),
            _ellipse("base", "dark", 0.0, 0.44, 0.22, 0.06),
            _polygon(
                "cap",
                "main",
                -0.46,
                0.06,
                -0.38,
                -0.2,
                -0.18,
                -0.38,
                0.18,
                -0.38,
                0.38,
                -0.2,
                0.46,
                0.06,
            ),
            _box("rim", "dark", -0.46, 0.0, 0.46, 0.08),
            _ellipse("spot", "paper", -0.16, -0.2, 0.09),
            _ellipse("spot", "paper", 0.18, -0.16, 0.08),
        ],
        "tree": [
            _polygon("trunk", "ink", -0.08, 0.1, 0.08, 0.1, 0.1, 0.5, -0.1, 0.5),
            _polygon("bottom", "main", -0.4, 0.26, 0.4, 0.26, 0.0, -0.1),
            _polygon("middle", "main", -0.32, 0.04, 0.32, 0.04, 0.0, -0.28),
            _polygon("top", "dark", -0.22, -0.16, 0.22, -0.16, 0.0, -0.5),
        ],
        "bottle": [
            _box("neck", "light", -0.08, -0.36, 0.08, -0.06),
            _box("cap", "ink", -0.1, -0.5, 0.1, -0.36),
            _polygon(
                "body",
                "main",
                -0.08,
                -0.12,
                0.08,
                -0.12,
                0.2,
                0.04,
                0.2,
                0.46,
                -0.2,
                0.46,
                -0.2,
                0.04,
            ),
            _box("label", "paper", -0.2, 0.12, 0.2, 0.32),
            _box("base", "dark", -0.2, 0.42, 0.2, 0.5),
        ],
        "chair": [
            _box("leg", "dark", -0.28, 0.1, -0.2, 0.5),
            _box("leg", "dark", 0.22, 0.1, 0.3, 0.5),
            _polygon("back", "main", -0.34, -0.5, -0.2, -0.5, -0.18, 0.06, -0.32, 0.06),
            _polygon("seat", "main", -0.34, 0.02, 0.34, 0.02, 0.34, 0.16, -0.34, 0.16),
            _bar("arm", "ink", -0.22, -0.18, 0.22, -0.18, 0.07),
            _bar("post", "ink", 0.2, -0.18, 0.2, 0.04, 0.06),
        ],
        "cup": [
            _ellipse("handle", "dark", 0.3, 0.02, 0.18, 0.2),
            _ellipse("hole", "paper", 0.31, 0.02, 0.09, 0.11),
            _polygon("body", "main", -0.36, -0.26, 0.26, -0.26, 0.18, 0.36, -0.28, 0.36),
            _ellipse("rim", "light", -0.05, -0.26, 0.31, 0.08),
            _ellipse("saucer", "dark", -0.05, 0.4, 0.42, 0.07),
        ],
        "guitar": [
            _bar("neck", "ink", 0.06, -0.06, 0.34, -0.36, 0.09),
            _polygon("head", "dark", 0.3, -0.42, 0.4, -0.5, 0.5, -0.38, 0.4, -0.3),
            _ellipse("bottom", "main", -0.2, 0.22, 0.27, 0.25),
            _ellipse("top", "main", 0.0, 0.0, 0.18, 0.17),
            _ellipse("hole", "ink", -0.08, 0.09, 0.08),
            _bar("bridge", "paper", -0.32, 0.2, -0.2, 0.34, 0.07),
        ],
        "key": [
            _bar("shaft", "main", -0.1, 0.0, 0.48, 0.0, 0.12),
            _box("tooth", "dark", 0.36, 0.0, 0.46, 0.24),
            _box("notch", "dark", 0.18, 0.0, 0.27, 0.2),
            _ellipse("ring", "main", -0.26, 0.0, 0.24),
            _ellipse("hole", "paper", -0.28, 0.0, 0.11),
        ],
        "lamp": [
            _bar("stand", "ink", 0.0, -0.1, 0.0, 0.4, 0.06),
            _ellipse("base", "dark", 0.0, 0.42, 0.24, 0.08),
            _ellipse("bulb", "paper", 0.0, 0.02, 0.1),
            _polygon("shade", "main", -0.18, -0.48, 0.18, -0.48, 0.38, 0.0, -0.38, 0.0),
            _box("rim", "dark", -0.38, -0.05, 0.38, 0.02),
        ],
        "umbrella": [
            _bar("stick", "ink", 0.0, -0.1, 0.0, 0.4, 0.05),
            _polygon(
                "handle",
                "ink",
                0.0,
                0.36,
                0.0,
                0.5,
                -0.2,
                0.5,
                -0.2,
                0.38,
                -0.14,
                0.38,
                -0.14,
                0.44,
                -0.05,
                0.44,
            ),
            _polygon(
                "left-panel",
                "dark",
                0.0,
                -0.4,
                -0.26,
                -0.28,
                -0.5,
                0.04,
                -0.34,
                -0.03,
                -0.18,
                0.04,
                0.0,
                0.0,
            ),
            _polygon(
                "right-panel",
                "dark",
                0.0,
                -0.4,
                0.26,
                -0.28,
                0.5,
                0.04,
                0.34,
                -0.03,
                0.18,
                0.04,
                0.0,
                0.0,
            ),
            _polygon(
                "middle-panel",
                "main",
                0.0,
                -0.4,
                0.2,
                -0.18,
                0.18,
                0.04,
                0.0,
                -0.02,
                -0.18,
                0.04,
                -0.2,
                -0.18,
            ),
            _bar("tip", "ink", 0.0, -0.38, 0.0, -0.5, 0.05),
        ],
    }


def _vehicles_and_buildings() -> dict[str, list[ShapePiece]]:
    return {
        "boat": [
            _bar("mast", "ink", 0.0, -0.46, 0.0, 0.2, 0.05),
            _polygon("big-sail", "main", 0.04, -0.46, 0.4, 0.12, 0.04, 0.12),
            _polygon("small-sail", "light", -0.04, -0.34, -0.3, 0.12, -0.04, 0.12),
            _polygon("hull", "dark", -0.46, 0.18, 0.48, 0.18, 0.32, 0.42, -0.32, 0.42),
            _polygon("bow", "ink", 0.34, 0.18, 0.5, 0.18, 0.34, 0.4),
        ],
        "car": [
            _polygon("roof", "main", -0.26, -0.02, -0.16, -0.24, 0.14, -0.24, 0.26, -0.02),
            _polygon("window", "paper", -0.18, -0.03, -0.12, -0.17, 0.1, -0.17, 0.18, -0.03),
            _polygon("body", "main", -0.5, -0.02, 0.38, -0.02, 0.5, 0.06, 0.5, 0.2, -0.5, 0.2),
            _ellipse("back-wheel", "ink", -0.27, 0.2, 0.13),
            _ellipse("front-wheel", "ink", 0.27, 0.2, 0.13),
            _ellipse("light", "paper", 0.46, 0.07, 0.05),
        ],
        "house": [
            _box("chimney", "ink", 0.16, -0.46, 0.28, -0.14),
            _box("wall", "main", -0.34, -0.06, 0.34, 0.46),
            _polygon("roof", "dark", -0.48, -0.06, 0.48, -0.06, 0.0, -0.46),
            _box("door", "ink", -0.22, 0.14, -0.04, 0.46),
            _box("window", "paper", 0.06, 0.08, 0.26, 0.26),
        ],
        "kite": [
            _polygon("top", "main", 0.0, -0.5, 0.28, -0.2, 0.0, -0.2),
            _polygon("top", "light", 0.0, -0.5, -0.28, -0.2, 0.0, -0.2),
            _polygon("bottom", "light", 0.28, -0.2, 0.0, 0.16, 0.0, -0.2),
            _polygon("bottom", "main", -0.28, -0.2, 0.0, 0.16, 0.0, -0.2),
            _bar("string", "ink", 0.0, 0.14, 0.08, 0.3, 0.04),
            _polygon("bow", "dark", 0.06, 0.28, 0.2, 0.2, 0.2, 0.36),
            _bar("string", "ink", 0.08, 0.3, -0.04, 0.44, 0.04),
            _polygon("tail", "dark", -0.04, 0.44, -0.2, 0.36, -0.2, 0.5),
        ],
        "plane": [
            _polygon("tail", "dark", -0.48, -0.3, -0.36, -0.3, -0.24, -0.02, -0.44, -0.02),
            _polygon("far-wing", "dark", 0.06, -0.06, -0.16, -0.32, -0.04, -0.32, 0.2, -0.06),
            _ellipse("body", "main", 0.02, 0.0, 0.46, 0.11),
            _ellipse("nose", "light", 0.43, 0.0, 0.07, 0.07),
            _polygon("near-wing", "dark", 0.1, 0.02, -0.14, 0.4, -0.3, 0.4, -0.1, 0.02),
            _polygon("window", "paper", 0.26, -0.07, 0.36, -0.04, 0.36, 0.01, 0.26, 0.01),
        ],
        "rocket": [
            _polygon("flame", "paper", -0.1, 0.3, 0.1, 0.3, 0.0, 0.5),
            _polygon("left-fin", "dark", -0.14, 0.06, -0.34, 0.36, -0.14, 0.3),
            _polygon("right-fin", "dark", 0.14, 0.06, 0.34, 0.36, 0.14, 0.3),
            _polygon("body", "main", -0.15, -0.24, 0.15, -0.24, 0.16, 0.3, -0.16, 0.3),
            _polygon("nose", "dark", -0.15, -0.22, 0.0, -0.5, 0.15, -0.22),
            _ellipse("window", "paper", 0.0, -0.06, 0.08),
        ],
    }


@cache
def shapes() -> dict[str, tuple[ShapePiece, ...]]:
    """Every category's pieces, back to front, in the alphabetical order that numbers the categories."""
    table = {**_animals(), **_plants_and_tools(), **_vehicles_and_buildings()}
    return {name: tuple(table[name]) for name in sorted(table)}


@cache
def parts(category: str) -> tuple[str, ...]:
    """The part names of a category, in the order that numbers them from 1 in a part map."""
    return tuple(dict.fromkeys(piece.part for piece in shapes()[category]))


@cache
def part_names() -> tuple[str, ...]:
    """All part names of the world, sorted."""
    return tuple(sorted({part for category in shapes() for part in parts(category)}))
