"""The 24 object categories of the scenes world: polygons with a part name, in a unit box.

A category is drawn as a row of pieces, from back to front; `outlines.py` has the table of them.
Coordinates run from -0.5 to 0.5, x to the right and y down, before mirroring, scaling and rotation.
Every piece belongs to a named part, and every part has one keypoint (`draw.py`). Its shade says
which color a piece takes: `main` (the thing's color, with its texture), `dark` and `light` (shades
of it), `ink` (near black) or `paper` (near white).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from kvtool.demo.outlines import OUTLINES

Points = npt.NDArray[np.float64]
Outline = tuple[tuple[float, float], ...]

ELLIPSE_CORNERS = 16
PETALS = 6


@dataclass(frozen=True)
class ShapePiece:
    """One polygon: the part it belongs to, its shade, and its outline (n, 2) in the unit box."""

    part: str
    shade: str
    outline: Outline

    def points(self) -> Points:
        """Return the corners of the outline as an array (n, 2)."""
        return np.asarray(self.outline, dtype=np.float64)


def _polygon(*coordinates: float) -> list[Outline]:
    """Return the corners x0, y0, x1, y1, ... are taken in pairs."""
    return [tuple(zip(coordinates[::2], coordinates[1::2], strict=True))]


def _ellipse(
    x: float, y: float, x_radius: float, y_radius: float | None = None, turn: float = 0
) -> list[Outline]:
    """An ellipse becomes sixteen corners, turned by `turn` degrees."""
    y_radius = x_radius if y_radius is None else y_radius
    cosine = math.cos(math.radians(turn))
    sine = math.sin(math.radians(turn))
    corners = []
    for step in range(ELLIPSE_CORNERS):
        u = x_radius * math.cos(step * math.pi / 8)
        v = y_radius * math.sin(step * math.pi / 8)
        corners.append((x + u * cosine - v * sine, y + u * sine + v * cosine))
    return [tuple(corners)]


def _bar(x0: float, y0: float, x1: float, y1: float, width: float) -> list[Outline]:
    """A straight stroke of the given width runs from one point to the other."""
    length = math.hypot(x1 - x0, y1 - y0)
    # Half the width, at right angles to the stroke.
    dx = -(y1 - y0) / length * width / 2
    dy = (x1 - x0) / length * width / 2
    return _polygon(x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy)


def _box(x0: float, y0: float, x1: float, y1: float) -> list[Outline]:
    """A rectangle is given by two opposite corners."""
    return _polygon(x0, y0, x1, y0, x1, y1, x0, y1)


def _petals(x: float, y: float, wreath_radius: float, petal_radius: float) -> list[Outline]:
    """Six discs lie around a center; each is a piece."""
    outlines: list[Outline] = []
    for petal in range(PETALS):
        angle = petal * math.pi / 3
        x_petal = x + wreath_radius * math.cos(angle)
        y_petal = y + wreath_radius * math.sin(angle)
        outlines += _ellipse(x_petal, y_petal, petal_radius)
    return outlines


_DRAWERS: dict[str, Callable[..., list[Outline]]] = {
    "polygon": _polygon,
    "ellipse": _ellipse,
    "bar": _bar,
    "box": _box,
    "petals": _petals,
}


def _number(text: str) -> float:
    """A length in hundredths becomes a fraction of the box's side; an angle stays in degrees."""
    if text.endswith("°"):
        return float(text.removesuffix("°"))
    return float(text) / 100


def _pieces(line: str) -> list[ShapePiece]:
    """Read one line of the table, see `outlines.py`."""
    kind, part, shade, *numbers = line.split()
    outlines = _DRAWERS[kind](*map(_number, numbers))
    return [ShapePiece(part, shade, outline) for outline in outlines]


@cache
def shapes() -> dict[str, tuple[ShapePiece, ...]]:
    """Return every category's pieces, back to front.

    The alphabetical order of the categories is the one that numbers them.
    """
    table = {}
    for category in sorted(OUTLINES):
        lines = OUTLINES[category].strip().splitlines()
        table[category] = tuple(piece for line in lines for piece in _pieces(line))
    return table


@cache
def parts(category: str) -> tuple[str, ...]:
    """Return the part names of a category, in the order that numbers them from 1 in a part map."""
    return tuple(dict.fromkeys(piece.part for piece in shapes()[category]))


@cache
def part_names() -> tuple[str, ...]:
    """Return all part names of the world, sorted."""
    return tuple(sorted({part for category in shapes() for part in parts(category)}))
