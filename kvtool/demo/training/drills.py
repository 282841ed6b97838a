"""Drills: lists in which a word must call up what is true of it, `what color ? fish red cup blue`.

In a question the word and its answer are apart, and attention has to learn two hops at once, which
it does very late. In a drill the answer follows the word, many in a row: one hop, much gradient.
"""

from __future__ import annotations

import numpy as np

from kvtool.demo.language import horizontal, number, plural, vertical
from kvtool.demo.questions.wording import things_alone
from kvtool.demo.training.config import IGNORED
from kvtool.demo.training.text import token_ids
from kvtool.demo.world import COLORS, Scene, Thing, categories

TASKS: dict[str, tuple[str, ...]] = {
    "color": ("what", "color", "?"),
    "texture": ("what", "texture", "?"),
    "size": ("what", "size", "?"),
    "count": ("how", "many", "?"),
    "existence": ("is", "there", "?"),
    "horizontal": ("left", "or", "right", "?"),
    "vertical": ("top", "or", "bottom", "?"),
    "by_color": ("which", "thing", "?"),
    "colored": ("is", "it", "?"),
    "left_right": ("left", "or", "right", ":"),
    "above_below": ("above", "or", "below", ":"),
}
PAIRED_TASKS = ("colored", "left_right", "above_below")
"""The tasks whose answer follows two words."""
WEIGHTS = (0.06, 0.03, 0.03, 0.16, 0.05, 0.08, 0.08, 0.04, 0.17, 0.15, 0.15)


def answer(scene: Scene, task: str, word: str) -> str | None:
    """Return what follows the word in a drill.

    It is `no` where the scene has no such thing, and None where several answers are true.
    """
    if task == "by_color":
        things = [thing for thing in scene.things if thing.color == word]
    else:
        things = [thing for thing in scene.things if thing.category == word]
    if task == "existence":
        return "yes" if things else "no"
    if task == "count":
        return number(len(things))
    if not things:
        return "no"
    values = {_value(scene, task, thing) for thing in things}
    return values.pop() if len(values) == 1 else None


def _value(scene: Scene, task: str, thing: Thing) -> str | None:
    if task == "horizontal":
        return horizontal(scene, thing)
    if task == "vertical":
        return vertical(scene, thing)
    if task == "by_color":
        return thing.category
    value: str = getattr(thing, task)
    return value


def drill(scene: Scene, rng: np.random.Generator, length: int) -> tuple[list[int], list[int]]:
    """Return the ids and next-token labels of one slot: one task after the other fills it."""
    inputs: list[int] = []
    labels: list[int] = []
    ids = token_ids()
    # A task needs its head and one item at least.
    while length - len(inputs) >= 6:
        task = list(TASKS)[int(rng.choice(len(TASKS), p=WEIGHTS))]
        head = [ids[word] for word in TASKS[task]]
        room = length - len(inputs) - len(head)
        inputs += head
        labels += [IGNORED] * len(head)
        # Relations take two words before their answer.
        if task in PAIRED_TASKS:
            for first, second, value in _pairs(scene, rng, task)[: room // 3]:
                inputs += [ids[first], ids[second], ids[value]]
                labels += [IGNORED, ids[value], IGNORED]
            continue
        for name in _subjects(scene, rng, task, room // 2):
            word_answer = answer(scene, task, name)
            # Questions about numbers use the plural.
            word = plural(name) if task == "count" and rng.random() < 0.7 else name
            # The label stands at the word: what follows it is to be told from the picture.
            inputs += [ids[word], ids[word_answer or "<unk>"]]
            labels += [ids[word_answer] if word_answer else IGNORED, IGNORED]
    padding = length - len(inputs)
    return inputs + [ids["<pad>"]] * padding, labels + [IGNORED] * padding


def _subjects(scene: Scene, rng: np.random.Generator, task: str, room: int) -> list[str]:
    """Choose words for a drill, at most `room`, in a random order.

    They name what the scene has, and something it lacks.
    """
    attribute = "color" if task == "by_color" else "category"
    pool = list(COLORS) if task == "by_color" else list(categories())
    present = list(dict.fromkeys(getattr(thing, attribute) for thing in scene.things))
    absent = [name for name in pool if name not in present]
    few = len(present) if task in ("existence", "by_color") else int(rng.random() < 0.4)
    names = present + [absent[int(index)] for index in rng.permutation(len(absent))[:few]]
    return [names[int(index)] for index in rng.permutation(len(names))][:room]


def _pairs(scene: Scene, rng: np.random.Generator, task: str) -> list[tuple[str, str, str]]:
    """List two words and what follows them, in a random order.

    Examples are `red fish yes`, and `fish cup left` (the fish is left of the cup).
    """
    if task == "colored":
        pairs = _colored_pairs(scene, rng)
    else:
        pairs = _related_pairs(scene, 0 if task == "left_right" else 1)
    return [pairs[int(index)] for index in rng.permutation(len(pairs))]


def _colored_pairs(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    pairs = []
    seen = [thing.color for thing in scene.things] + [str(rng.choice(list(COLORS)))]
    for thing in scene.things:
        color = thing.color if rng.random() < 0.5 else str(rng.choice(seen))
        namesakes = [rival for rival in scene.things if rival.category == thing.category]
        present = any(rival.color == color for rival in namesakes)
        pairs.append((color, thing.category, "yes" if present else "no"))
    return pairs


def _related_pairs(scene: Scene, axis: int) -> list[tuple[str, str, str]]:
    before, after = (("left", "right"), ("above", "below"))[axis]
    pairs = []
    things = things_alone(scene)
    for first in things:
        for second in things:
            # Things too close on the axis have no clear order.
            apart = (first.center_xy_px[axis] - second.center_xy_px[axis]) / scene.size_wh[axis]
            if abs(apart) >= 0.12:
                pairs.append((first.category, second.category, after if apart > 0 else before))
    return pairs
