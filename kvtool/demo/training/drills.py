"""Drills: lists in which a word alone must call up what is true of it, `what color ? fish red cup blue`.

In a question the word asked about and the place of the answer are apart, and attention has to learn two hops at once,
which it does very late. In a drill the answer follows the word, many in a row: one hop, much gradient.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from kvtool.demo.language import horizontal, number, plural, vertical
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
WEIGHTS = (0.06, 0.03, 0.03, 0.16, 0.05, 0.08, 0.08, 0.04, 0.17, 0.15, 0.15)


def answer(scene: Scene, task: str, asked: str) -> str | None:
    """What follows the word in a drill; `no` where the scene has no such thing, None where there is no one answer."""
    if task == "by_color":
        named = {thing.category for thing in scene.things if thing.color == asked}
        return next(iter(named)) if len(named) == 1 else (None if named else "no")
    found = [thing for thing in scene.things if thing.category == asked]
    if task == "existence":
        return "yes" if found else "no"
    if task == "count":
        return number(len(found))
    if not found:
        return "no"
    values = {_value(scene, task, thing) for thing in found}
    return values.pop() if len(values) == 1 else None


def _value(scene: Scene, task: str, thing: Thing) -> str | None:
    if task == "horizontal":
        return horizontal(scene, thing)
    if task == "vertical":
        return vertical(scene, thing)
    found: str = getattr(thing, task)
    return found


def drill(scene: Scene, rng: np.random.Generator, length: int) -> tuple[list[int], list[int]]:
    """Ids and next-token labels of one slot: one task after the other until it is full."""
    inputs: list[int] = []
    labels: list[int] = []
    ids = token_ids()
    while length - len(inputs) >= 6:
        task = list(TASKS)[int(rng.choice(len(TASKS), p=WEIGHTS))]
        head = [ids[word] for word in TASKS[task]]
        room = length - len(inputs) - len(head)
        inputs += head
        labels += [IGNORED] * len(head)
        if task in ("colored", "left_right", "above_below"):
            for first, second, told in _pairs(scene, rng, task)[: room // 3]:
                inputs += [ids[first], ids[second], ids[told]]
                labels += [IGNORED, ids[told], IGNORED]
            continue
        names = _asked(scene, rng, task, room // 2)
        for name in names:
            found = answer(scene, task, name)
            # Questions about numbers use the plural.
            shown = plural(name) if task == "count" and rng.random() < 0.7 else name
            inputs += [ids[shown], ids[found] if found else ids["<unk>"]]
            labels += [ids[found] if found else IGNORED, IGNORED]
    padding = length - len(inputs)
    return inputs + [ids["<pad>"]] * padding, labels + [IGNORED] * padding


def _asked(scene: Scene, rng: np.random.Generator, task: str, room: int) -> list[str]:
    """Words to ask about, at most `room`, in a random order: what is there, and something that is not."""
    words = list(COLORS) if task == "by_color" else list(categories())
    present = list(
        dict.fromkeys(
            thing.color if task == "by_color" else thing.category for thing in scene.things
        )
    )
    absent = [name for name in words if name not in present]
    few = len(present) if task in ("existence", "by_color") else int(rng.random() < 0.4)
    names = present + [absent[int(index)] for index in rng.permutation(len(absent))[:few]]
    return [names[int(index)] for index in rng.permutation(len(names))][:room]


def _pairs(scene: Scene, rng: np.random.Generator, task: str) -> list[tuple[str, str, str]]:
    """Two words and what follows them: `red fish yes`, `fish cup left` (the fish is left of the cup)."""
    found = []
    if task == "colored":
        seen = [thing.color for thing in scene.things] + [str(rng.choice(list(COLORS)))]
        for thing in scene.things:
            color = thing.color if rng.random() < 0.5 else str(rng.choice(seen))
            held = {other.color for other in scene.things if other.category == thing.category}
            found.append((color, thing.category, "yes" if color in held else "no"))
    else:
        axis = 0 if task == "left_right" else 1
        counts = Counter(thing.category for thing in scene.things)
        alone = [thing for thing in scene.things if counts[thing.category] == 1]
        for one in alone:
            for other in alone:
                apart = (one.center_xy_px[axis] - other.center_xy_px[axis]) / scene.size_wh[axis]
                if abs(apart) >= 0.12:
                    told = (("left", "above"), ("right", "below"))[apart > 0][axis]
                    found.append((one.category, other.category, told))
    return [found[int(index)] for index in rng.permutation(len(found))]
