"""Questions about what things there are, how many, and what they look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from kvtool.demo.language import number, plural, with_article
from kvtool.demo.questions.wording import (
    YES_NO,
    SceneQuestion,
    as_choice,
    existence_question,
    pick,
    pick_alone,
    yes,
)
from kvtool.demo.world import COLORS, TEXTURES, Scene, categories


def existence(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for a category, which is present or absent with equal chances."""
    names = sorted({thing.category for thing in scene.things})
    present = bool(rng.integers(2))
    pool = names if present else [name for name in categories() if name not in names]
    return existence_question(pick(rng, pool), present, int(rng.random() < 0.3))


def _attribute(scene: Scene, rng: np.random.Generator, attribute: str) -> SceneQuestion | None:
    thing = pick_alone(scene, rng)
    if thing is None:
        return None
    text = f"What {attribute} is the {thing.category}?"
    return SceneQuestion(text, getattr(thing, attribute), attribute)


def color_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the color of a thing."""
    return _attribute(scene, rng, "color")


def texture_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the texture of a thing."""
    return _attribute(scene, rng, "texture")


def size_of(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask for the size of a thing."""
    return _attribute(scene, rng, "size")


def _attribute_yes_no(
    scene: Scene, rng: np.random.Generator, attribute: str, values: Sequence[str], kind: str
) -> SceneQuestion:
    """Ask whether there is a red fish.

    Where the answer is no, the fish, the red, or both are in the picture.
    """
    thing = scene.things[rng.integers(len(scene.things))]
    category = thing.category
    value = getattr(thing, attribute)
    present = bool(rng.integers(2))
    # A no must not be plain from the picture's colors alone: a near miss is asked about.
    if not present:
        value = _absent_value(scene, rng, attribute, values, category)
        if value is None:
            return existence_question(category, True)
    text = f"Is there {with_article(value)} {category} in the image? {YES_NO}"
    return SceneQuestion(text, yes(present), kind)


def _absent_value(
    scene: Scene, rng: np.random.Generator, attribute: str, values: Sequence[str], category: str
) -> str | None:
    """Pick a value that no thing of the category has; in half of the cases another thing has it."""
    namesakes = [thing for thing in scene.things if thing.category == category]
    true_values = {getattr(thing, attribute) for thing in namesakes}
    seen = {getattr(thing, attribute) for thing in scene.things} - true_values
    if seen and rng.random() < 0.5:
        return pick(rng, sorted(seen))
    pool = [value for value in values if value not in true_values]
    return pick(rng, pool) if pool else None


def color_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask whether there is a thing of a color and a category."""
    return _attribute_yes_no(scene, rng, "color", list(COLORS), "color_yes_no")


def texture_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask whether there is a thing of a texture and a category."""
    return _attribute_yes_no(scene, rng, "texture", TEXTURES, "texture_yes_no")


def _pick_count(scene: Scene, rng: np.random.Generator) -> tuple[str, int]:
    """Pick a category of the scene, rather one that is repeated, and count it."""
    counts = Counter(thing.category for thing in scene.things)
    names = sorted(counts)
    repeated = [name for name in names if counts[name] > 1]
    name = pick(rng, repeated if repeated and rng.random() < 0.7 else names)
    return name, counts[name]


def count(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask how many things of a category there are."""
    name, answer = _pick_count(scene, rng)
    text = f"How many {plural(name)} are there in the image?"
    return SceneQuestion(text, number(answer), "count")


def count_things(scene: Scene, _rng: np.random.Generator) -> SceneQuestion | None:
    """Ask how many things there are."""
    text = "How many things are there in the image?"
    return SceneQuestion(text, number(len(scene.things)), "count_things")


def count_yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask whether there are so many things of a category, as MME does."""
    name, answer = _pick_count(scene, rng)
    present = bool(rng.integers(2))
    guess = answer if present else int(rng.choice([n for n in range(1, 5) if n != answer]))
    start = f"Are there {number(guess)} {plural(name)}"
    if guess == 1:
        start = f"Is there only one {name}"
    return SceneQuestion(f"{start} in this image? {YES_NO}", yes(present), "count_yes_no")


def count_choice(scene: Scene, rng: np.random.Generator) -> SceneQuestion | None:
    """Ask how many things of a category there are, with four numbers to choose from."""
    name, answer = _pick_count(scene, rng)
    wrong = [n for n in range(1, 6) if n != answer]
    options = [answer, *(wrong[int(i)] for i in rng.permutation(len(wrong))[:3])]
    text = f"How many {plural(name)} are in the image?"
    return as_choice(rng, text, [str(n) for n in options], str(answer), "count_choice")
