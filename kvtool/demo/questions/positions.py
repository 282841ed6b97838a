"""Questions about where things are: beside each other, in the picture, and in front of each other.

Positions need a margin, so that every answer is beyond doubt.
"""

from __future__ import annotations

import numpy as np

from kvtool.demo.language import HALVES, SIDES, horizontal, vertical
from kvtool.demo.questions.wording import (
    YES_NO,
    SceneQuestion,
    as_choice,
    pick,
    pick_alone,
    things_alone,
    yes,
)
from kvtool.demo.world import Scene, Thing

RELATIONS = (("left", "right"), ("above", "below"))
"""The relations of two things along x and along y."""
APART = 0.15
"""Two things are asked about where they are this far apart, as a fraction of the picture's side."""


def _pair(scene: Scene, rng: np.random.Generator, axis: int) -> tuple[Thing, Thing] | None:
    """Pick two things that are alone of their category and apart along the axis."""
    things = things_alone(scene)
    pairs = []
    for first in things:
        for second in things:
            distance_px = abs(first.center_xy_px[axis] - second.center_xy_px[axis])
            if distance_px >= APART * scene.size_wh[axis]:
                pairs.append((first, second))
    return pairs[rng.integers(len(pairs))] if pairs else None


def _relation(axis: int, first: Thing, second: Thing) -> str:
    before = first.center_xy_px[axis] < second.center_xy_px[axis]
    return RELATIONS[axis][0 if before else 1]


def relation_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask whether a thing is left of, right of, above or below another, as MME does."""
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    guess = pick(rng, RELATIONS[axis])
    preposition = f"on the {guess} side of" if axis == 0 else guess
    text = f"Is the {pair[0].category} {preposition} the {pair[1].category}? {YES_NO}"
    kind = ("left_right_yes_no", "above_below_yes_no")[axis]
    return SceneQuestion(text, yes(guess == _relation(axis, *pair)), kind)


def relation(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask on which side of another thing a thing is."""
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    prepositions = ("on the left or on the right of", "above or below")[axis]
    text = f"Is the {pair[0].category} {prepositions} the {pair[1].category}?"
    kind = ("relation_left_right", "relation_above_below")[axis]
    return SceneQuestion(text, _relation(axis, *pair), kind)


def relation_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask on which side of another thing a thing is, in CV-Bench's wording and with choices."""
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    first, second = (thing.category for thing in pair)
    text = (
        f"Considering the relative positions of the {first} and the {second} in the image "
        f"provided, where is the {first} located with respect to the {second}?"
    )
    kind = ("left_right_choice", "above_below_choice")[axis]
    return as_choice(rng, text, RELATIONS[axis], _relation(axis, *pair), kind)


def side(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask on which half of the picture a thing is."""
    thing = pick_alone(scene, rng)
    if thing is None:
        return None
    axis = int(rng.integers(2))
    answer = (horizontal, vertical)[axis](scene, thing)
    if answer is None:
        return None
    halves = HALVES[axis]
    if rng.random() < 0.5:
        guess = pick(rng, halves)
        text = f"Is the {thing.category} {SIDES[guess]} of the image? {YES_NO}"
        return SceneQuestion(text, yes(guess == answer), "side_yes_no")
    text = f"Is the {thing.category} {SIDES[halves[0]]} or {SIDES[halves[1]]}?"
    return SceneQuestion(text, answer, ("side_left_right", "side_top_bottom")[axis])


def depth_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask which of two overlapping things is in front."""
    things = things_alone(scene)
    if len(things) < 2:
        return None
    # Things are ordered from back to front.
    back, front = (things[int(index)] for index in sorted(rng.permutation(len(things))[:2]))
    # Only things that overlap show which one is in front.
    reach_px = (back.scale_px + front.scale_px) * 0.36
    centers = zip(back.center_xy_px, front.center_xy_px, strict=True)
    if any(abs(a - b) > reach_px for a, b in centers):
        return None
    names = [back.category, front.category]
    first, second = (names[int(index)] for index in rng.permutation(2))
    text = f"Which object is closer to the camera taking this photo, the {first} or the {second}?"
    return as_choice(rng, text, (first, second), front.category, "depth_choice")
