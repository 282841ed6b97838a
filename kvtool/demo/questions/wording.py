"""What all questions share: the question itself, its answer, and lists of choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvtool.demo.language import CHOICES, with_article
from kvtool.demo.world import Scene, Thing

YES_NO = "Please answer yes or no."
SELECT = "Select from the following choices."


@dataclass(frozen=True)
class SceneQuestion:
    """A question on one scene, its answer, and the kind of question it is.

    Kinds are finer than the keys of `KINDS`: a relation may be of left and right, or of above and
    below.
    """

    text: str
    answer: str
    kind: str


def pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    """Return a random item."""
    return items[int(rng.integers(len(items)))]


def things_alone(scene: Scene) -> list[Thing]:
    """List the things whose category nothing else in the scene has."""
    counts = Counter(thing.category for thing in scene.things)
    return [thing for thing in scene.things if counts[thing.category] == 1]


def pick_alone(scene: Scene, rng: np.random.Generator) -> Thing | None:
    """Return a random thing that is alone of its category, if there is one."""
    things = things_alone(scene)
    return things[rng.integers(len(things))] if things else None


def yes(truth: bool) -> str:
    """Return `yes` or `no`."""
    return "yes" if truth else "no"


def choice_text(options: Sequence[str]) -> str:
    """List the options with their letters: `(A) left (B) right`."""
    return " ".join(f"{letter} {option}" for letter, option in zip(CHOICES, options, strict=False))


def as_choice(
    rng: np.random.Generator, question: str, options: Sequence[str], answer: str, kind: str
) -> SceneQuestion:
    """Ask for one of several options, as CV-Bench and BLINK do.

    The options come in a random order, and the answer is the letter in brackets.
    """
    order = [options[int(index)] for index in rng.permutation(len(options))]
    text = f"{question} {SELECT} {choice_text(order)}"
    return SceneQuestion(text, CHOICES[order.index(answer)], kind)


def existence_question(category: str, present: bool, wording: int = 0) -> SceneQuestion:
    """Ask whether there is such a thing, in POPE's wording (0) or in MME's (1)."""
    name = with_article(category)
    texts = (f"Is there {name} in the image?", f"Is there {name} in this image? {YES_NO}")
    return SceneQuestion(texts[wording], yes(present), "existence")
