"""Contexts of joint training: what stands before the questions, with real images in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from kvtool.demo.compare import Comparison
from kvtool.demo.language import (
    RANDOM_PREFIX,
    caption,
    domain_sentence,
    number,
    plural,
    spot,
    with_article,
)
from kvtool.demo.questions import KINDS, SceneQuestion
from kvtool.demo.street import TRAIN_IDS, Street
from kvtool.demo.training.batches import Asker, Packed, Slot, draws, fill, padded, slot
from kvtool.demo.training.config import IMAGE_TOKENS, Slots
from kvtool.demo.training.data import World
from kvtool.demo.training.text import encode, token_ids
from kvtool.demo.world import Scene, categories

IMAGE_LENGTH = IMAGE_TOKENS + 1
"""Image tokens and the newline that transformers appends to a base view."""
PLAIN_CONTEXT = 2 + IMAGE_LENGTH
PREFIX_CONTEXT = PLAIN_CONTEXT + 36
MANY_CONTEXT = 2 + 3 * IMAGE_LENGTH
ORDINALS = ("first", "second", "third")
PER_IMAGE_KINDS = (
    "existence",
    "existence",
    "count",
    "color_yes_no",
    "count_things",
    "time",
    "style",
)
STREET_ASKED = ("truck", "bus", "person", "building", "sidewalk", "terrain", "wall")


@dataclass(frozen=True)
class Batch:
    """`context_ids` (B, C) with the image token repeated where features go, `images` (n, 96, 96, 3) in that order."""

    context_ids: Tensor
    lengths: Tensor
    bias: Tensor
    images: npt.NDArray[np.uint8]
    packed: Packed


def prompt(prefix: str, images: int) -> list[int]:
    """Ids up to the last image: `<|im_start|> user prefix <image> ...`."""
    ids = token_ids()
    return [
        ids["<|im_start|>"],
        ids["user"],
        *encode(prefix),
        *[ids["<image>"]] * (IMAGE_LENGTH * images),
    ]


def street_question(
    rng: np.random.Generator, street: Street, present: npt.NDArray[np.bool_]
) -> SceneQuestion:
    kind = rng.integers(4)
    if kind == 0:
        return SceneQuestion("Is it day or night in the image?", street.time, "time")
    if kind == 1:
        return SceneQuestion("What place is shown in the image?", street.kind, "place")
    if kind == 2:
        return SceneQuestion(
            "Describe the image.", domain_sentence(street.time, street.kind) + ".", "caption"
        )
    name = STREET_ASKED[rng.integers(len(STREET_ASKED))]
    answer = "yes" if present[TRAIN_IDS.index(name)] else "no"
    return SceneQuestion(f"Is there {with_article(name)} in the image?", answer, "existence")


def about_it(rng: np.random.Generator, scene: Scene, name: str) -> SceneQuestion:
    """A question that says `it` of the category named before the image."""
    found = [thing for thing in scene.things if thing.category == name]
    kind = rng.integers(4) if found else 0
    if kind == 0:
        return SceneQuestion("Is it in the image?", "yes" if found else "no", "existence")
    if kind == 1 or len(found) > 1:
        return SceneQuestion("How many are there in the image?", number(len(found)), "count")
    if kind == 2:
        return SceneQuestion("What color is it?", found[0].color, "color")
    return SceneQuestion("Where is it?", spot(scene, found[0]), "spot")


class Contexts:
    """Draws batches of each sort from a world."""

    def __init__(self, world: World, slots: Slots, asker: Asker):
        self.world, self.slots, self.asker = world, slots, asker

    def _lengths(self) -> list[int]:
        return [length for count, length in self.slots for _ in range(count)]

    def _put(
        self, question: SceneQuestion, length: int, fallback: Scene | None, rng: np.random.Generator
    ) -> Slot:
        """The question's slot; where it is too long, another one."""
        found = slot(question.text, question.answer, length)
        if found is None:
            assert fallback is not None, f"too long for {length} tokens: {question.text}"
            found = self.asker.ask(fallback, rng, length)
        return found

    def one_image(self, rng: np.random.Generator, batch: int, prefixed: bool) -> Batch:
        """A scene, now and then a street; with a text before it if `prefixed`."""
        rows, images, asked = [], [], []
        for _ in range(batch):
            if rng.random() < 0.06:
                prefix, image, questions = self._street_row(rng, prefixed)
            else:
                prefix, image, questions = self._scene_row(rng, prefixed)
            rows.append(prompt(prefix, 1))
            images.append(image)
            asked.append(questions)
        ids, lengths, bias = padded(rows, PREFIX_CONTEXT if prefixed else PLAIN_CONTEXT)
        return Batch(ids, lengths, bias, np.stack(images), fill(asked))

    def _street_row(
        self, rng: np.random.Generator, prefixed: bool
    ) -> tuple[str, npt.NDArray[np.uint8], list[Slot]]:
        index = next(draws(rng, len(self.world.streets), 1))
        street, present = cast(
            "tuple[Street, npt.NDArray[np.bool_]]", self.world.streets.items[index]
        )
        asked = []
        for length in self._lengths():
            found = None
            while found is None:
                question = street_question(rng, street, present)
                found = slot(question.text, question.answer, length)
            asked.append(found)
        prefix = domain_sentence(street.time, street.kind) if prefixed else ""
        return prefix, self.world.streets.images[index], asked

    def _scene_row(
        self, rng: np.random.Generator, prefixed: bool
    ) -> tuple[str, npt.NDArray[np.uint8], list[Slot]]:
        index = next(draws(rng, len(self.world.scenes), 1))
        scene = cast(Scene, self.world.scenes.items[index])
        asked = [self.asker.ask(scene, rng, length) for length in self._lengths()]
        prefix, choice = "", rng.random()
        if prefixed and choice < 0.5:
            here = rng.random() < 0.75
            pool = [thing.category for thing in scene.things] if here else list(categories())
            prefix = pool[rng.integers(len(pool))]
            for position in range(0, len(asked), 2):
                asked[position] = self._put(
                    about_it(rng, scene, prefix), self._lengths()[position], scene, rng
                )
        elif prefixed and choice < 0.75:
            prefix = caption(scene, rng, spots=False)
        elif prefixed:
            prefix = (
                RANDOM_PREFIX
                if choice < 0.9
                else domain_sentence(("day", "night")[rng.integers(2)], "city street")
            )
        return prefix, self.world.scenes.images[index], asked

    def many_images(self, rng: np.random.Generator, batch: int) -> Batch:
        """Two or three images: a comparison, or unrelated scenes; questions say which image they mean."""
        rows, images, asked = [], [], []
        for _ in range(batch):
            first: Slot | None = None
            if rng.random() < 0.5:
                index = next(draws(rng, len(self.world.comparisons), 1))
                compared = cast(Comparison, self.world.comparisons.items[index])
                scenes = list(compared.scenes)
                shown = self.world.comparisons.images[index][: len(scenes)]
                first = slot(compared.text, compared.answer, max(self._lengths()))
            else:
                indices = list(draws(rng, len(self.world.scenes), int(rng.integers(2, 4))))
                scenes = [cast(Scene, self.world.scenes.items[index]) for index in indices]
                shown = self.world.scenes.images[indices]
            questions = [self._of_one(rng, scenes, length) for length in self._lengths()]
            if first is not None:
                questions[-1] = first
            rows.append(prompt("", len(scenes)))
            images.append(shown)
            asked.append(questions)
        ids, lengths, bias = padded(rows, MANY_CONTEXT)
        return Batch(ids, lengths, bias, np.concatenate(images), fill(asked))

    def _of_one(self, rng: np.random.Generator, scenes: list[Scene], length: int) -> Slot:
        """A question on one of several images."""
        while True:
            at = int(rng.integers(len(scenes)))
            kind = PER_IMAGE_KINDS[rng.integers(len(PER_IMAGE_KINDS))]
            question = KINDS[kind](scenes[at], rng)
            if question is None:
                continue
            text = question.text.replace("this image", "the image").replace(
                "the image", f"the {ORDINALS[at]} image"
            )
            found = slot(text, question.answer, length)
            if found:
                return found


__all__ = ["Batch", "Contexts", "plural", "prompt"]
