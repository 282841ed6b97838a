"""What is said of a scene: captions, expressions that name one thing, and the vocabulary.

Everything follows from the scene's data, not from its pixels. Sentences are written with ordinary
casing and punctuation; `words` cuts them into the tokens of the vocabulary (lower case, except the
letters of choices).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from kvtool.demo.shapes import part_names
from kvtool.demo.world import (
    COLORS,
    SETTINGS,
    SIZES,
    STYLES,
    TEXTURES,
    TIMES,
    Scene,
    Thing,
    categories,
)

SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
CHOICES = ("(A)", "(B)", "(C)", "(D)")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
PREPOSITION = {
    "field": "in a field",
    "sea": "in the sea",
    "desert": "in the desert",
    "snow": "in the snow",
    "room": "in a room",
    "sky": "in the sky",
}
SIDES = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
}
HALVES = (("left", "right"), ("top", "bottom"))
"""The halves of the picture along x and along y."""
UNCHANGED_PLURAL = ("fish",)
RANDOM_PREFIX = (
    "A rustic wooden table filled with freshly baked croissants, dripping honey, and a steaming "
    "pot of Earl Grey tea beside a bowl of ripe figs."
)
"""The random control of the paper's text prefixes (its section on prefixing)."""
HALF_MARGIN = 0.08
"""A thing this close to the middle, as a fraction of the side, is in neither half."""

_OTHER_WORDS = """
a an the is are was there in of at on it its and or not than to with from by as one only total no
yes please answer image images photo picture this that these those other others thing things object
objects point points part how many what which where who do does you see can say color colour colors
colours texture size place time style shown provided considering relative positions position located
respect left right top bottom above below middle side behind front next near closer closest camera
taking taken select following choices first second third same similar more most different describe
list name repeat scene sentence nothing background corresponds corresponding reference called look
looks like has have contains drawn visible bigger smaller between given take tell b c d ref daytime
nighttime city street view highway user assistant system helpful
"""
_PUNCTUATION = tuple(".,?!:;'\"()-")
_STREET_WORDS = (
    "road sidewalk building wall fence pole traffic light sign vegetation terrain sky person rider "
    "car truck bus train motorcycle bicycle persons cars trucks buses"
)


@dataclass(frozen=True)
class SceneExpression:
    """A phrase that fits exactly one thing of the scene, whose index is `thing`."""

    text: str
    thing: int


def plural(category: str) -> str:
    """Return the plural that questions about numbers use."""
    if category in UNCHANGED_PLURAL:
        return category
    if category.endswith("y") and category[-2] not in "aeiou":
        return category[:-1] + "ies"
    return category + ("es" if category.endswith(("s", "x", "sh", "ch")) else "s")


def with_article(phrase: str) -> str:
    """Put the article before a phrase: `a fish`, `an umbrella`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def number(count: int) -> str:
    """Return the word for a number from 0 to 6."""
    return NUMBERS[count]


@cache
def vocabulary() -> tuple[str, ...]:
    """Return every token, special ones first: the index is the token's id."""
    names = [word for category in categories() for word in (category, plural(category))]
    world = [
        *names,
        *part_names(),
        *COLORS,
        *TEXTURES,
        *SIZES,
        *SETTINGS,
        *TIMES,
        *STYLES,
        *NUMBERS,
        *map(str, range(10)),
    ]
    ordered = [
        *SPECIAL,
        *CHOICES,
        *_PUNCTUATION,
        *world,
        *_OTHER_WORDS.split(),
        *_STREET_WORDS.split(),
    ]
    ordered.extend(words(RANDOM_PREFIX))
    for part in part_names():
        ordered.extend(words(part))
    return tuple(dict.fromkeys(ordered))


_TOKEN = re.compile(r"\([A-D]\)|<[^<>\s]+>|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]")


def words(text: str) -> list[str]:
    """Cut a text into tokens as the shipped tokenizer does.

    This is the slow, obvious reference beside it.
    """
    tokens = _TOKEN.findall(text)
    return [token if token in CHOICES or token in SPECIAL else token.lower() for token in tokens]


def horizontal(scene: Scene, thing: Thing, margin: float = HALF_MARGIN) -> str | None:
    """Return the half of the picture, `left` or `right`, or None near the middle.

    The margin on either side of the middle is a fraction of the width.
    """
    return _half(scene, thing, 0, margin)


def vertical(scene: Scene, thing: Thing, margin: float = HALF_MARGIN) -> str | None:
    """Return the half of the picture, `top` or `bottom`, or None near the middle."""
    return _half(scene, thing, 1, margin)


def _half(scene: Scene, thing: Thing, axis: int, margin: float) -> str | None:
    offset = thing.center_xy_px[axis] / scene.size_wh[axis] - 0.5
    if abs(offset) < margin:
        return None
    return HALVES[axis][0 if offset < 0 else 1]


def spot(scene: Scene, thing: Thing) -> str:
    """Say where the thing is: `at the top left`, `on the right`, `in the middle`."""
    x = horizontal(scene, thing, 0.12)
    y = vertical(scene, thing, 0.12)
    if x and y:
        return f"at the {y} {x}"
    if x or y:
        return SIDES[x or y or ""]
    return "in the middle"


def look(thing: Thing, *, size: bool = True, color: bool = True, texture: bool = True) -> str:
    """Say what the thing looks like: `big red striped fish`.

    A plain thing has no word for its texture.
    """
    adjectives = [thing.size] if size else []
    adjectives += [thing.color] if color else []
    adjectives += [thing.texture] if texture and thing.texture != "plain" else []
    return " ".join([*adjectives, thing.category])


def caption(scene: Scene, rng: np.random.Generator | None = None, *, spots: bool = True) -> str:
    """Say in one sentence what and where all things are, the place and the time.

    With `rng` the things come in a random order.
    """
    count = len(scene.things)
    order = range(count) if rng is None else rng.permutation(count)
    phrases = []
    for index in order:
        thing = scene.things[index]
        phrases.append(with_article(look(thing)) + (f" {spot(scene, thing)}" if spots else ""))
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return f"{listed}, {PREPOSITION[scene.setting]} at {scene.time}."


def domain_sentence(time: str, kind: str) -> str:
    """Return the paper's prefix for driving scenes; the kind is `city street` or `highway`."""
    daytime = "daytime" if time == "day" else "nighttime"
    view = "city street view" if kind == "city street" else "highway"
    return f"The image is taken at {daytime} and it is from {view}"


def expressions(scene: Scene) -> list[SceneExpression]:
    """List all phrases of our patterns that fit one thing and one only, shortest first.

    A side is named only where the thing is clearly on it and no rival comes near that half.
    """
    phrases = []
    for index, thing in enumerate(scene.things):
        rivals = [rival for i, rival in enumerate(scene.things) if i != index]
        namesakes = [rival for rival in rivals if rival.category == thing.category]
        texts = [] if namesakes else [f"the {thing.category}"]
        for attribute in ("color", "texture", "size"):
            value = getattr(thing, attribute)
            if all(getattr(rival, attribute) != value for rival in namesakes):
                texts.append(f"the {value} {thing.category}")
            if all(getattr(rival, attribute) != value for rival in rivals):
                texts.append(f"the {value} thing")
        # A thing near the middle is on no side, and a rival there spoils the phrase.
        for axis, halves in enumerate(HALVES):
            half = _half(scene, thing, axis, 0.1)
            if half is None:
                continue
            opposite = halves[1 - halves.index(half)]
            if all(_half(scene, rival, axis, 0.0) == opposite for rival in namesakes):
                texts.append(f"the {thing.category} {SIDES[half]}")
            if all(_half(scene, rival, axis, 0.0) == opposite for rival in rivals):
                texts.append(f"the thing {SIDES[half]}")
        phrases += [SceneExpression(text, index) for text in texts]
    return phrases
