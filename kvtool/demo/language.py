"""What is said of a scene: captions, expressions that name one thing, and the fixed list of words.

Everything follows from the scene's data, not from its pixels. Sentences are written with ordinary casing and
punctuation; `words` cuts them into the tokens of the vocabulary (lower case, except the letters of choices).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from kvtool.demo.shapes import part_names
from kvtool.demo.world import (
    COLORS,
    PLACES,
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
UNCHANGED_PLURAL = ("fish",)
RANDOM_PREFIX = (
    "A rustic wooden table filled with freshly baked croissants, dripping honey, and a steaming pot of Earl Grey tea "
    "beside a bowl of ripe figs."
)
"""The random control of the paper's text prefixes (its section on prefixing)."""

_OTHER_WORDS = """
a an the is are was there in of at on it its and or not than to with from by as one only total no yes please answer
image images photo picture this that these those other others thing things object objects point points part
how many what which where who do does you see can say color colour colors colours texture size place time style
shown provided considering relative positions position located respect left right top bottom above below middle side
behind front next near closer closest camera taking taken select following choices first second third same similar more
most different describe list name repeat scene sentence nothing background corresponds corresponding
reference called look looks like has have contains drawn visible bigger smaller between given take tell b c d ref
daytime nighttime city street view highway user assistant system helpful
"""
_PUNCTUATION = tuple(".,?!:;'\"()-")
_STREET_WORDS = (
    "road sidewalk building wall fence pole traffic light sign vegetation terrain sky person rider car truck bus train "
    "motorcycle bicycle persons cars trucks buses"
)


@dataclass(frozen=True)
class SceneExpression:
    """A phrase that fits exactly one thing of the scene: `thing` is its index."""

    text: str
    thing: int


def plural(category: str) -> str:
    """The plural used in questions about numbers."""
    if category in UNCHANGED_PLURAL:
        return category
    if category.endswith("y") and category[-2] not in "aeiou":
        return category[:-1] + "ies"
    return category + ("es" if category.endswith(("s", "x", "sh", "ch")) else "s")


def with_article(phrase: str) -> str:
    """`a fish`, `an umbrella`."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def number(count: int) -> str:
    return NUMBERS[count]


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token, special ones first: the index is the token's id."""
    names = [word for category in categories() for word in (category, plural(category))]
    world = [
        *names,
        *part_names(),
        *COLORS,
        *TEXTURES,
        *SIZES,
        *PLACES,
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
    for word in words(RANDOM_PREFIX):
        ordered.append(word)
    for part in part_names():
        ordered.extend(words(part))
    return tuple(dict.fromkeys(ordered))


_TOKEN = re.compile(r"\([A-D]\)|<[^<>\s]+>|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]")


def words(text: str) -> list[str]:
    """Cut a text into tokens as the shipped tokenizer does: the slow, obvious reference beside it."""
    found = _TOKEN.findall(text)
    return [token if token in CHOICES or token in SPECIAL else token.lower() for token in found]


def horizontal(scene: Scene, thing: Thing, margin: float = 0.08) -> str | None:
    """`left` or `right` half of the picture, None within `margin` (fraction of the width) of the middle."""
    offset = thing.center_xy_px[0] / scene.size_wh[0] - 0.5
    return None if abs(offset) < margin else ("left" if offset < 0 else "right")


def vertical(scene: Scene, thing: Thing, margin: float = 0.08) -> str | None:
    """`top` or `bottom` half of the picture, None within `margin` (fraction of the height) of the middle."""
    offset = thing.center_xy_px[1] / scene.size_wh[1] - 0.5
    return None if abs(offset) < margin else ("top" if offset < 0 else "bottom")


def spot(scene: Scene, thing: Thing) -> str:
    """Where the thing is, in words: `at the top left`, `on the right`, `in the middle`."""
    x, y = horizontal(scene, thing, 0.12), vertical(scene, thing, 0.12)
    if x and y:
        return f"at the {y} {x}"
    if x or y:
        return SIDES[x or y or ""]
    return "in the middle"


def look(thing: Thing, *, size: bool = True, color: bool = True, texture: bool = True) -> str:
    """Adjectives and category: `big red striped fish`; a plain thing has no word for its texture."""
    adjectives = [thing.size] if size else []
    adjectives += [thing.color] if color else []
    adjectives += [thing.texture] if texture and thing.texture != "plain" else []
    return " ".join([*adjectives, thing.category])


def caption(scene: Scene, rng: np.random.Generator | None = None, *, spots: bool = True) -> str:
    """One sentence on all things, the place and the time. With `rng` the things come in a random order."""
    order = (
        list(range(len(scene.things)))
        if rng is None
        else [int(i) for i in rng.permutation(len(scene.things))]
    )
    phrases = []
    for index in order:
        thing = scene.things[index]
        phrases.append(with_article(look(thing)) + (f" {spot(scene, thing)}" if spots else ""))
    listed = phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
    return f"{listed}, {PREPOSITION[scene.place]} at {scene.time}."


def domain_sentence(time: str, kind: str) -> str:
    """The paper's prefix for driving scenes; `kind` is `city street` or `highway`."""
    taken = "daytime" if time == "day" else "nighttime"
    return f"The image is taken at {taken} and it is from {'city street view' if kind == 'city street' else 'highway'}"


def expressions(scene: Scene) -> list[SceneExpression]:
    """All phrases of our patterns that fit one thing and one only, shortest attributes first.

    A side is named only where the thing is clearly there and no rival comes near that half.
    """
    found = []
    for index, thing in enumerate(scene.things):
        rivals = [other for position, other in enumerate(scene.things) if position != index]
        same = [other for other in rivals if other.category == thing.category]
        if not same:
            found.append(SceneExpression(f"the {thing.category}", index))
        for attribute in ("color", "texture", "size"):
            value = getattr(thing, attribute)
            if all(getattr(other, attribute) != value for other in same):
                found.append(SceneExpression(f"the {value} {thing.category}", index))
            if all(getattr(other, attribute) != value for other in rivals):
                found.append(SceneExpression(f"the {value} thing", index))
        for side_of, words_of in ((horizontal, ("left", "right")), (vertical, ("top", "bottom"))):
            side = side_of(scene, thing, 0.1)
            opposite = words_of[side == words_of[0]]
            if side and all(side_of(scene, other, 0.0) == opposite for other in same):
                found.append(SceneExpression(f"the {thing.category} {SIDES[side]}", index))
            if side and all(side_of(scene, other, 0.0) == opposite for other in rivals):
                found.append(SceneExpression(f"the thing {SIDES[side]}", index))
    return found
