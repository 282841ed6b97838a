"""What is in a scene: things with a pose, a place, a time and a drawing style, sampled from a seed.

A scene is plain data. draw.py turns it into pixels and maps, language.py and questions.py into words.
Things are ordered from back to front. All lengths are pixels of the scene's own size, angles are degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvtool.demo.shapes import shapes

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 38),
    "orange": (250, 140, 20),
    "yellow": (250, 224, 40),
    "green": (34, 160, 60),
    "blue": (36, 84, 220),
    "purple": (134, 48, 180),
    "pink": (255, 130, 190),
    "brown": (124, 72, 30),
    "black": (34, 34, 38),
    "white": (246, 246, 246),
}
TEXTURES = ("plain", "striped", "dotted")
SIZES = ("big", "small")
PLACES = ("field", "sea", "desert", "snow", "room", "sky")
TIMES = ("day", "night")
STYLES = ("flat", "outlined", "pale", "mosaic")
SIZE_FRACTION = {"big": (0.40, 0.52), "small": (0.25, 0.32)}
"""Range of a thing's scale as a fraction of the scene's shorter side."""


@dataclass(frozen=True)
class Thing:
    """One object: what it is, and its pose. `scale_px` is the side of its unit box, `center_xy_px` the box's middle."""

    category: str
    color: str
    texture: str
    size: str
    center_xy_px: tuple[float, float]
    scale_px: float
    angle_deg: float = 0.0
    mirror: bool = False


@dataclass(frozen=True)
class Scene:
    """A picture to draw: `size_wh` in pixels, `things` from back to front; `seed` only feeds the background's noise."""

    size_wh: tuple[int, int]
    things: tuple[Thing, ...]
    place: str
    time: str
    style: str
    seed: int


def categories() -> tuple[str, ...]:
    """The category names, sorted: index + 1 is the category's id."""
    return tuple(shapes())


def sample_thing(
    rng: np.random.Generator, size_wh: tuple[int, int], category: str, size: str | None = None
) -> Thing:
    """A thing with a random look and a random pose inside the scene."""
    size = size or SIZES[rng.integers(2)]
    low, high = SIZE_FRACTION[size]
    scale = float(rng.uniform(low, high)) * min(size_wh)
    half = 0.45 * scale
    x, y = (float(rng.uniform(half, side - half)) for side in size_wh)
    return Thing(
        category=category,
        color=list(COLORS)[rng.integers(len(COLORS))],
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        size=size,
        center_xy_px=(x, y),
        scale_px=scale,
        angle_deg=float(rng.uniform(-20, 20)),
        mirror=bool(rng.integers(2)),
    )


def _overlap(thing: Thing, other: Thing) -> float:
    """Intersection of the two things' boxes over the smaller box."""
    shared = 1.0
    for a, b in zip(thing.center_xy_px, other.center_xy_px, strict=True):
        length = min(a + thing.scale_px / 2, b + other.scale_px / 2) - max(
            a - thing.scale_px / 2, b - other.scale_px / 2
        )
        shared *= max(length, 0.0)
    return shared / min(thing.scale_px, other.scale_px) ** 2


def _place_apart(
    rng: np.random.Generator,
    thing: Thing,
    placed: Sequence[Thing],
    size_wh: tuple[int, int],
    limit: float,
) -> Thing:
    """The thing at the random spot (of up to 30) that overlaps what is placed by less than `limit`, or the best one."""
    best, best_overlap = thing, math.inf
    for attempt in range(30):
        candidate = thing
        if attempt:
            half = 0.45 * thing.scale_px
            x, y = (float(rng.uniform(half, side - half)) for side in size_wh)
            candidate = replace(thing, center_xy_px=(x, y))
        worst = max((_overlap(candidate, other) for other in placed), default=0.0)
        if worst < best_overlap:
            best, best_overlap = candidate, worst
        if best_overlap <= limit:
            break
    return best


def sample_scene(
    rng: np.random.Generator,
    *,
    size_wh: tuple[int, int] | None = None,
    n_things: int | None = None,
    categories: Sequence[str] | None = None,
    place: str | None = None,
    time: str | None = None,
    style: str | None = None,
    overlap: float = 0.25,
) -> Scene:
    """A random scene; what is given is kept.

    Args:
        size_wh: default: each side 96 to 224 px, width / height between 0.75 and 1.33.
        n_things: default one to four.
        categories: one name per thing, back to front (then `n_things` is their number). By default drawn so that
            about a third of the scenes repeat a category.
        overlap: how much of the smaller of two things' boxes may be shared, at most (best effort in a full scene).
    """
    size_wh = size_wh or sample_size(rng)
    names = tuple(shapes())
    if categories is None:
        count = int(rng.integers(1, 5)) if n_things is None else n_things
        categories = [names[index] for index in rng.integers(len(names), size=count)]
        if count > 1 and rng.random() < 0.35:
            repeats = int(rng.integers(2, count + 1))
            categories = [categories[0]] * repeats + list(categories[repeats:])
        categories = [categories[index] for index in rng.permutation(count)]
    things: list[Thing] = []
    many = len(categories) > 4
    for category in categories:
        thing = sample_thing(rng, size_wh, category, size="small" if many else None)
        things.append(_place_apart(rng, thing, things, size_wh, overlap))
    return Scene(
        size_wh=size_wh,
        things=tuple(things),
        place=place or PLACES[rng.integers(len(PLACES))],
        time=time or TIMES[int(rng.random() < 0.35)],
        style=style or STYLES[rng.choice(len(STYLES), p=(0.52, 0.16, 0.16, 0.16))],
        seed=int(rng.integers(2**31)),
    )


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """A width and height in pixels: shorter side 96 to 168, width / height between 0.75 and 1.33."""
    height = int(rng.integers(112, 169))
    return round(height * float(rng.uniform(0.8, 1.33))), height


def sample_motion(
    rng: np.random.Generator,
    *,
    n_frames: int,
    size_wh: tuple[int, int],
    n_things: int | None = None,
) -> list[Scene]:
    """Scenes of a video: two or three things drift, turn and breathe smoothly, and pass in front of each other.

    The order of things (hence the ids of their masks) is the same in every frame.
    """
    count = int(rng.integers(2, 4)) if n_things is None else n_things
    names = list(rng.permutation(list(shapes()))[:count])
    first = sample_scene(
        rng, size_wh=size_wh, categories=[str(name) for name in names], time="day", style="flat"
    )
    things = [replace(thing, size="big") for thing in first.things]
    things = [
        replace(thing, scale_px=float(rng.uniform(0.32, 0.46)) * min(size_wh)) for thing in things
    ]
    swing = rng.uniform(0.12, 0.28, size=(count, 2)) * rng.choice([-1, 1], size=(count, 2))
    spin, breath, pace = (
        rng.uniform(-25, 25, count),
        rng.uniform(-0.12, 0.12, count),
        rng.uniform(0.7, 1.3, count),
    )
    frames = []
    for frame in range(n_frames):
        moved = []
        for index, thing in enumerate(things):
            wave = math.sin(pace[index] * math.pi * frame / max(n_frames - 1, 1))
            centre = []
            for axis, side in enumerate(size_wh):
                reach = 0.45 * thing.scale_px
                spot = thing.center_xy_px[axis] + swing[index, axis] * wave * side
                centre.append(float(np.clip(spot, reach, side - reach)))
            moved.append(
                replace(
                    thing,
                    center_xy_px=(centre[0], centre[1]),
                    scale_px=thing.scale_px * (1 + float(breath[index]) * wave),
                    angle_deg=thing.angle_deg + float(spin[index]) * wave,
                )
            )
        frames.append(replace(first, things=tuple(moved)))
    return frames
