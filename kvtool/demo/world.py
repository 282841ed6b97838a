"""What is in a scene: things with a pose, a setting, a time and a drawing style, from a seed.

A scene is plain data. `draw.py` turns it into pixels and maps, `language.py` and `questions/`
into words. Things are ordered from back to front. All lengths are pixels of the scene's own size,
angles are degrees.
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
SETTINGS = ("field", "sea", "desert", "snow", "room", "sky")
TIMES = ("day", "night")
STYLES = ("flat", "outlined", "pale", "mosaic")
SIZE_FRACTION = {"big": (0.40, 0.52), "small": (0.25, 0.32)}
"""The range of a thing's scale, as a fraction of the scene's shorter side."""
STYLE_CHANCES = (0.52, 0.16, 0.16, 0.16)
NIGHT_CHANCE = 0.35
REPEAT_CHANCE = 0.35
"""How often a scene of several things repeats a category."""
REACH = 0.45
"""A thing's center stays this fraction of its scale away from the edges of the picture."""
ATTEMPTS = 30
"""How many spots are tried for a thing before the best of them is taken."""


@dataclass(frozen=True)
class Thing:
    """One object: what it is, and its pose.

    `scale_px` is the side of its unit box, and `center_xy_px` is the middle of that box.
    """

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
    """A picture to draw: `size_wh` is in pixels, and `things` are listed from back to front.

    The `seed` feeds the noise of the background and nothing else.
    """

    size_wh: tuple[int, int]
    things: tuple[Thing, ...]
    setting: str
    time: str
    style: str
    seed: int


def categories() -> tuple[str, ...]:
    """Return the category names, sorted: index + 1 is the category's id."""
    return tuple(shapes())


def sample_thing(
    rng: np.random.Generator, size_wh: tuple[int, int], category: str, size: str | None = None
) -> Thing:
    """Draw a thing with a random look and a random pose inside the scene."""
    size = size or SIZES[rng.integers(2)]
    low, high = SIZE_FRACTION[size]
    scale_px = float(rng.uniform(low, high)) * min(size_wh)
    center_xy_px = _sample_center(rng, scale_px, size_wh)
    return Thing(
        category=category,
        color=list(COLORS)[rng.integers(len(COLORS))],
        texture=TEXTURES[rng.integers(len(TEXTURES))],
        size=size,
        center_xy_px=center_xy_px,
        scale_px=scale_px,
        angle_deg=float(rng.uniform(-20, 20)),
        mirror=bool(rng.integers(2)),
    )


def _sample_center(
    rng: np.random.Generator, scale_px: float, size_wh: tuple[int, int]
) -> tuple[float, float]:
    reach = REACH * scale_px
    x, y = (float(rng.uniform(reach, side - reach)) for side in size_wh)
    return x, y


def _overlap(thing: Thing, neighbor: Thing) -> float:
    """Divide the intersection of the two things' boxes by the smaller box."""
    area = 1.0
    for a, b in zip(thing.center_xy_px, neighbor.center_xy_px, strict=True):
        end = min(a + thing.scale_px / 2, b + neighbor.scale_px / 2)
        start = max(a - thing.scale_px / 2, b - neighbor.scale_px / 2)
        area *= max(end - start, 0.0)
    return area / min(thing.scale_px, neighbor.scale_px) ** 2


def _put_apart(
    rng: np.random.Generator,
    thing: Thing,
    things: Sequence[Thing],
    size_wh: tuple[int, int],
    limit: float,
) -> Thing:
    """Move the thing to a spot where it overlaps the others by less than `limit`.

    If none of the spots that are tried does, the best of them is taken.
    """
    best = thing
    best_overlap = math.inf
    for attempt in range(ATTEMPTS):
        candidate = thing
        if attempt:
            center_xy_px = _sample_center(rng, thing.scale_px, size_wh)
            candidate = replace(thing, center_xy_px=center_xy_px)
        # How much is hidden counts where it is worst: one neighbor is enough to cover a thing.
        worst = max((_overlap(candidate, neighbor) for neighbor in things), default=0.0)
        if worst < best_overlap:
            best = candidate
            best_overlap = worst
        if best_overlap <= limit:
            break
    return best


def _sample_categories(rng: np.random.Generator, n_things: int | None) -> list[str]:
    """Draw a name for each thing; about a third of the lists repeat a category."""
    names = tuple(shapes())
    count = int(rng.integers(1, 5)) if n_things is None else n_things
    order = [names[index] for index in rng.integers(len(names), size=count)]
    if count > 1 and rng.random() < REPEAT_CHANCE:
        repeats = int(rng.integers(2, count + 1))
        # The first category takes the place of the next ones, so that the number of things stays.
        order = [order[0]] * repeats + order[repeats:]
    return [order[index] for index in rng.permutation(count)]


def sample_scene(
    rng: np.random.Generator,
    *,
    size_wh: tuple[int, int] | None = None,
    n_things: int | None = None,
    categories: Sequence[str] | None = None,
    setting: str | None = None,
    time: str | None = None,
    style: str | None = None,
    overlap: float = 0.25,
) -> Scene:
    """Draw a random scene, of which the caller may fix any part.

    Args:
        size_wh: Width and height in pixels. By default see `sample_size`.
        n_things: How many things the scene has. By default one to four.
        categories: A name for each thing, from back to front; `n_things` is then their number.
            By default they are drawn so that about a third of the scenes repeat a category.
        setting, time, style: One of SETTINGS, TIMES and STYLES. By default one is drawn of each.
        overlap: How much of the smaller of two things' boxes may be shared, at most. In a full
            scene it may be more.
    """
    size_wh = size_wh or sample_size(rng)
    if categories is None:
        categories = _sample_categories(rng, n_things)
    # More than four things only fit when all are small.
    size = "small" if len(categories) > 4 else None
    things: list[Thing] = []
    for category in categories:
        thing = sample_thing(rng, size_wh, category, size)
        things.append(_put_apart(rng, thing, things, size_wh, overlap))
    return Scene(
        size_wh=size_wh,
        things=tuple(things),
        setting=setting or SETTINGS[rng.integers(len(SETTINGS))],
        time=time or TIMES[int(rng.random() < NIGHT_CHANCE)],
        style=style or STYLES[rng.choice(len(STYLES), p=STYLE_CHANCES)],
        seed=int(rng.integers(2**31)),
    )


def sample_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw a width and a height in pixels: height 112 to 168, width / height 0.8 to 1.33."""
    height = int(rng.integers(112, 169))
    return round(height * float(rng.uniform(0.8, 1.33))), height


@dataclass(frozen=True)
class _Motion:
    """How one thing moves: half a wave of drift, turn and growth around its first pose."""

    drift_xy: tuple[float, float]
    spin_deg: float
    growth: float
    pace: float

    def pose(self, thing: Thing, frame: int, n_frames: int, size_wh: tuple[int, int]) -> Thing:
        """Move the thing to where it is in a frame."""
        # Half a wave from 0: the first frame has the first pose, and motion is slow where it turns.
        wave = math.sin(self.pace * math.pi * frame / max(n_frames - 1, 1))
        reach = REACH * thing.scale_px
        center = []
        for axis, side in enumerate(size_wh):
            spot = thing.center_xy_px[axis] + self.drift_xy[axis] * wave * side
            # However far it drifts, all of the thing stays in the picture.
            center.append(float(np.clip(spot, reach, side - reach)))
        return replace(
            thing,
            center_xy_px=(center[0], center[1]),
            scale_px=thing.scale_px * (1 + self.growth * wave),
            angle_deg=thing.angle_deg + self.spin_deg * wave,
        )


def _sample_motions(rng: np.random.Generator, count: int) -> list[_Motion]:
    drift = rng.uniform(0.12, 0.28, size=(count, 2)) * rng.choice([-1, 1], size=(count, 2))
    spin = rng.uniform(-25, 25, count)
    growth = rng.uniform(-0.12, 0.12, count)
    pace = rng.uniform(0.7, 1.3, count)
    return [
        _Motion((drift[i, 0], drift[i, 1]), float(spin[i]), float(growth[i]), pace[i])
        for i in range(count)
    ]


def sample_motion(
    rng: np.random.Generator,
    *,
    n_frames: int,
    size_wh: tuple[int, int],
    n_things: int | None = None,
) -> list[Scene]:
    """Draw the scenes of a video, in which things move smoothly and pass in front of each other.

    The order of things (hence the ids of their masks) is the same in every frame.

    Args:
        n_frames: The number of scenes.
        size_wh: Width and height of each in pixels.
        n_things: How many things move. By default two or three.
    """
    count = int(rng.integers(2, 4)) if n_things is None else n_things
    # Categories are distinct: each object of the video has its own.
    names = [str(name) for name in rng.permutation(list(shapes()))[:count]]
    first = sample_scene(rng, size_wh=size_wh, categories=names, time="day", style="flat")
    # All things are big, so that they meet.
    things = []
    for thing in first.things:
        scale_px = float(rng.uniform(0.32, 0.46)) * min(size_wh)
        things.append(replace(thing, size="big", scale_px=scale_px))
    motions = _sample_motions(rng, count)
    frames = []
    for frame in range(n_frames):
        poses = [
            motion.pose(thing, frame, n_frames, size_wh)
            for motion, thing in zip(motions, things, strict=True)
        ]
        frames.append(replace(first, things=tuple(poses)))
    return frames
