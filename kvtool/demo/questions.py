"""Questions about one scene, with their answers, in the manner of POPE, MME and CV-Bench, and some of our own.

Each question has a `kind`; `KINDS` lists them. Answers follow from the scene's data. A question is only asked where
its answer is beyond doubt: positions need a margin, colors and relations a thing that its category names alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kvtool.demo.language import (
    CHOICES,
    SIDES,
    caption,
    expressions,
    horizontal,
    look,
    number,
    plural,
    spot,
    vertical,
    with_article,
)
from kvtool.demo.world import COLORS, PLACES, TEXTURES, Scene, Thing, categories

YES_NO = "Please answer yes or no."
SELECT = "Select from the following choices."


@dataclass(frozen=True)
class SceneQuestion:
    """A question on one scene, its answer, and its kind (a key of `KINDS`)."""

    text: str
    answer: str
    kind: str


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _alone(scene: Scene) -> list[Thing]:
    """The things whose category nothing else in the scene has."""
    counts = Counter(thing.category for thing in scene.things)
    return [thing for thing in scene.things if counts[thing.category] == 1]


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def choice_text(options: Sequence[str]) -> str:
    """`(A) left (B) right`."""
    return " ".join(f"{letter} {option}" for letter, option in zip(CHOICES, options, strict=False))


def as_choice(
    rng: np.random.Generator, question: str, options: Sequence[str], answer: str, kind: str
) -> SceneQuestion:
    """The options in a random order, the answer as the letter in brackets (CV-Bench, BLINK)."""
    order = [options[int(index)] for index in rng.permutation(len(options))]
    return SceneQuestion(
        f"{question} {SELECT} {choice_text(order)}", CHOICES[order.index(answer)], kind
    )


def existence_question(category: str, present: bool, wording: int = 0) -> SceneQuestion:
    """POPE's wording (0), or MME's (1)."""
    name = with_article(category)
    texts = (f"Is there {name} in the image?", f"Is there {name} in this image? {YES_NO}")
    return SceneQuestion(texts[wording], _yes(present), "existence")


def existence(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """A category, present or absent with equal chances."""
    here = sorted({thing.category for thing in scene.things})
    present = bool(rng.integers(2))
    pool = here if present else [name for name in categories() if name not in here]
    return existence_question(_pick(rng, pool), present, int(rng.random() < 0.3))


def color_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    things = _alone(scene)
    if not things:
        return None
    thing = things[rng.integers(len(things))]
    return SceneQuestion(f"What color is the {thing.category}?", thing.color, "color")


def _attribute_yes_no(
    scene: Scene, rng: np.random.Generator, attribute: str, values: Sequence[str], kind: str
) -> SceneQuestion:
    """Is there a red fish? Where the answer is no, the fish, the red, or both are in the picture."""
    thing = scene.things[rng.integers(len(scene.things))]
    category, value, present = thing.category, getattr(thing, attribute), bool(rng.integers(2))
    if not present:
        held = {getattr(other, attribute) for other in scene.things if other.category == category}
        seen = [
            value
            for value in {getattr(other, attribute) for other in scene.things}
            if value not in held
        ]
        pool = (
            sorted(seen)
            if seen and rng.random() < 0.5
            else [value for value in values if value not in held]
        )
        if not pool:
            return existence_question(category, True)
        value = _pick(rng, pool)
    return SceneQuestion(
        f"Is there {with_article(value)} {category} in the image? {YES_NO}", _yes(present), kind
    )


def color_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    return _attribute_yes_no(scene, rng, "color", list(COLORS), "color_yes_no")


def texture_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    return _attribute_yes_no(scene, rng, "texture", TEXTURES, "texture_yes_no")


def texture_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    things = _alone(scene)
    if not things:
        return None
    thing = things[rng.integers(len(things))]
    return SceneQuestion(f"What texture is the {thing.category}?", thing.texture, "texture")


def size_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    things = _alone(scene)
    if not things:
        return None
    thing = things[rng.integers(len(things))]
    return SceneQuestion(f"What size is the {thing.category}?", thing.size, "size")


def _counted(scene: Scene, rng: np.random.Generator) -> tuple[str, int]:
    """A category of the scene, the frequent ones no more likely than others."""
    counts = Counter(thing.category for thing in scene.things)
    names = sorted(counts)
    repeated = [name for name in names if counts[name] > 1]
    name = _pick(rng, repeated if repeated and rng.random() < 0.7 else names)
    return name, counts[name]


def count(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    name, answer = _counted(scene, rng)
    return SceneQuestion(
        f"How many {plural(name)} are there in the image?", number(answer), "count"
    )


def count_things(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    return SceneQuestion(
        "How many things are there in the image?", number(len(scene.things)), "count_things"
    )


def count_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    name, answer = _counted(scene, rng)
    present = bool(rng.integers(2))
    asked = answer if present else int(rng.choice([n for n in range(1, 5) if n != answer]))
    start = (
        f"Is there only one {name}" if asked == 1 else f"Are there {number(asked)} {plural(name)}"
    )
    return SceneQuestion(f"{start} in this image? {YES_NO}", _yes(present), "count_yes_no")


def count_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    name, answer = _counted(scene, rng)
    others = [n for n in range(1, 6) if n != answer]
    options = [answer, *(others[int(i)] for i in rng.permutation(len(others))[:3])]
    return as_choice(
        rng,
        f"How many {plural(name)} are in the image?",
        [str(n) for n in options],
        str(answer),
        "count_choice",
    )


def _pair(scene: Scene, rng: np.random.Generator, axis: int) -> tuple[Thing, Thing] | None:
    """Two things alone of their category, apart by at least 0.15 of the picture along the axis."""
    things = _alone(scene)
    pairs = []
    for one in things:
        for other in things:
            if abs(one.center_xy_px[axis] - other.center_xy_px[axis]) >= 0.15 * scene.size_wh[axis]:
                pairs.append((one, other))
    return pairs[rng.integers(len(pairs))] if pairs else None


def _relation(axis: int, one: Thing, other: Thing) -> str:
    first = one.center_xy_px[axis] < other.center_xy_px[axis]
    return (("left", "right"), ("above", "below"))[axis][not first]


def relation_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    truth = _relation(axis, *pair)
    asked = _pick(rng, (("left", "right"), ("above", "below"))[axis])
    where = f"on the {asked} side of" if axis == 0 else asked
    text = f"Is the {pair[0].category} {where} the {pair[1].category}? {YES_NO}"
    return SceneQuestion(
        text, _yes(asked == truth), ("left_right_yes_no", "above_below_yes_no")[axis]
    )


def relation(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    between = ("on the left or on the right of", "above or below")[axis]
    text = f"Is the {pair[0].category} {between} the {pair[1].category}?"
    return SceneQuestion(
        text, _relation(axis, *pair), ("relation_left_right", "relation_above_below")[axis]
    )


def relation_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    axis = int(rng.integers(2))
    pair = _pair(scene, rng, axis)
    if pair is None:
        return None
    one, other = (thing.category for thing in pair)
    text = (
        f"Considering the relative positions of the {one} and the {other} in the image provided, "
        f"where is the {one} located with respect to the {other}?"
    )
    options = (("left", "right"), ("above", "below"))[axis]
    return as_choice(
        rng,
        text,
        options,
        _relation(axis, *pair),
        ("left_right_choice", "above_below_choice")[axis],
    )


def side(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """On which half of the picture a thing is."""
    things = _alone(scene)
    if not things:
        return None
    thing, axis = things[rng.integers(len(things))], int(rng.integers(2))
    answer = (horizontal, vertical)[axis](scene, thing)
    if answer is None:
        return None
    pair = (("left", "right"), ("top", "bottom"))[axis]
    if rng.random() < 0.5:
        asked = _pick(rng, pair)
        return SceneQuestion(
            f"Is the {thing.category} {SIDES[asked]} of the image? {YES_NO}",
            _yes(asked == answer),
            "side_yes_no",
        )
    kind = ("side_left_right", "side_top_bottom")[axis]
    return SceneQuestion(
        f"Is the {thing.category} {SIDES[pair[0]]} or {SIDES[pair[1]]}?", answer, kind
    )


def depth_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Which of two overlapping things is in front."""
    alone = _alone(scene)
    if len(alone) < 2:
        return None
    back, front = (alone[int(index)] for index in sorted(rng.permutation(len(alone))[:2]))
    reach = (back.scale_px + front.scale_px) * 0.36
    if any(abs(a - b) > reach for a, b in zip(back.center_xy_px, front.center_xy_px, strict=True)):
        return None
    names = [back.category, front.category]
    first, second = (names[int(index)] for index in rng.permutation(2))
    text = f"Which object is closer to the camera taking this photo, the {first} or the {second}?"
    return as_choice(rng, text, (first, second), front.category, "depth_choice")


def place_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    if rng.random() < 0.5:
        return SceneQuestion("What place is shown in the image?", scene.place, "place")
    asked = scene.place if rng.random() < 0.5 else _pick(rng, PLACES)
    return SceneQuestion(
        f"Is the place shown in the image a {asked}? {YES_NO}",
        _yes(asked == scene.place),
        "place_yes_no",
    )


def time_of(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    return SceneQuestion("Is it day or night in the image?", scene.time, "time")


def style_of(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    return SceneQuestion("What style is the image drawn in?", scene.style, "style")


def refer_color(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Which thing is it: an expression without the category is answered with the look of the thing."""
    found = [item for item in expressions(scene) if " thing" in item.text]
    if not found:
        return None
    item = found[rng.integers(len(found))]
    return SceneQuestion(
        f"What is {item.text}?", with_article(look(scene.things[item.thing])), "refer"
    )


def describe_thing(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """An expression that names the thing is answered with its look and its place."""
    found = [item for item in expressions(scene) if " thing" not in item.text]
    if not found:
        return None
    item = found[rng.integers(len(found))]
    thing = scene.things[item.thing]
    return SceneQuestion(
        f"Describe {item.text}.", f"{with_article(look(thing))} {spot(scene, thing)}", "describe"
    )


def list_color(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """All things of a color, from left to right."""
    color = _pick(rng, sorted({thing.color for thing in scene.things}))
    found = sorted(
        (thing.center_xy_px[0], thing.category) for thing in scene.things if thing.color == color
    )
    return SceneQuestion(
        f"List the {color} things.", ", ".join(name for _, name in found), "list_color"
    )


def list_things(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    """All things from left to right."""
    found = sorted(scene.things, key=lambda thing: thing.center_xy_px[0])
    listed = ", ".join(look(thing, size=False, texture=False) for thing in found)
    return SceneQuestion("List the things from left to right.", listed, "list")


def describe_scene(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    return SceneQuestion("Describe the image.", caption(scene, rng), "caption")


KINDS: dict[str, Callable[[Scene, np.random.Generator], SceneQuestion | None]] = {
    "existence": existence,
    "color": color_of,
    "color_yes_no": color_yes_no,
    "texture": texture_of,
    "texture_yes_no": texture_yes_no,
    "size": size_of,
    "count": count,
    "count_things": count_things,
    "count_yes_no": count_yes_no,
    "count_choice": count_choice,
    "relation": relation,
    "relation_yes_no": relation_yes_no,
    "relation_choice": relation_choice,
    "side": side,
    "depth_choice": depth_choice,
    "place": place_of,
    "time": time_of,
    "style": style_of,
    "refer": refer_color,
    "describe": describe_thing,
    "list_color": list_color,
    "list": list_things,
    "caption": describe_scene,
}


def questions(
    scene: Scene, rng: np.random.Generator, kinds: Sequence[str] | None = None
) -> list[SceneQuestion]:
    """One question of each kind asked for (default: all kinds), where the scene allows it, in that order."""
    asked = [KINDS[kind](scene, rng) for kind in (kinds or KINDS)]
    return [question for question in asked if question is not None]
