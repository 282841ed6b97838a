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
from kvtool.demo.training.batches import (
    Asker,
    Packed,
    Slot,
    draws,
    fill,
    padded,
    slot,
    slot_lengths,
)
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
STREET_CLASSES = ("truck", "bus", "person", "building", "sidewalk", "terrain", "wall")


@dataclass(frozen=True)
class ContextBatch:
    """Contexts with their images and questions.

    Attributes:
        context_ids: (B, C), with the image token repeated where features go.
        lengths: (B,), the true lengths of the contexts.
        bias: (B, C), the attention's bias, which hides the padding.
        images: (n, 96, 96, 3) in the order of the contexts.
        packed: The slots.
    """

    context_ids: Tensor
    lengths: Tensor
    bias: Tensor
    images: npt.NDArray[np.uint8]
    packed: Packed


def prompt(prefix: str, images: int) -> list[int]:
    """Return the ids up to the last image: `<|im_start|> user prefix <image> ...`."""
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
    """Ask for time, place, description, or one of the 19 classes, which `present` (19,) has."""
    kind = rng.integers(4)
    if kind == 0:
        return SceneQuestion("Is it day or night in the image?", street.time, "time")
    if kind == 1:
        return SceneQuestion("What place is shown in the image?", street.kind, "place")
    if kind == 2:
        sentence = domain_sentence(street.time, street.kind) + "."
        return SceneQuestion("Describe the image.", sentence, "caption")
    name = STREET_CLASSES[rng.integers(len(STREET_CLASSES))]
    answer = "yes" if present[TRAIN_IDS.index(name)] else "no"
    return SceneQuestion(f"Is there {with_article(name)} in the image?", answer, "existence")


def about_it(rng: np.random.Generator, scene: Scene, name: str) -> SceneQuestion:
    """Ask a question that says `it` of the category named before the image."""
    # Without such a thing only its absence can be asked about.
    things = [thing for thing in scene.things if thing.category == name]
    kind = rng.integers(4) if things else 0
    if kind == 0:
        return SceneQuestion("Is it in the image?", "yes" if things else "no", "existence")
    if kind == 1 or len(things) > 1:
        return SceneQuestion("How many are there in the image?", number(len(things)), "count")
    if kind == 2:
        return SceneQuestion("What color is it?", things[0].color, "color")
    return SceneQuestion("Where is it?", spot(scene, things[0]), "spot")


Row = tuple[str, npt.NDArray[np.uint8], list[Slot]]
"""A prefix, an image (96, 96, 3), and the slots."""


class Contexts:
    """Draws batches of each sort from a world."""

    def __init__(self, world: World, slots: Slots, asker: Asker):
        self.world = world
        self.asker = asker
        self.lengths = slot_lengths(slots)

    def one_image(self, rng: np.random.Generator, batch: int, prefixed: bool) -> ContextBatch:
        """Draw contexts of a scene or, now and then, a street; `prefixed` puts a text before it."""
        prompts: list[list[int]] = []
        images: list[npt.NDArray[np.uint8]] = []
        rows: list[list[Slot]] = []
        for _ in range(batch):
            # Streets are few, and are asked about less than scenes.
            if rng.random() < 0.06:
                prefix, image, row = self._street_row(rng, prefixed)
            else:
                prefix, image, row = self._scene_row(rng, prefixed)
            prompts.append(prompt(prefix, 1))
            images.append(image)
            rows.append(row)
        ids, lengths, bias = padded(prompts, PREFIX_CONTEXT if prefixed else PLAIN_CONTEXT)
        return ContextBatch(ids, lengths, bias, np.stack(images), fill(rows))

    def _street_row(self, rng: np.random.Generator, prefixed: bool) -> Row:
        index = next(draws(rng, len(self.world.streets), 1))
        street, present = cast(
            "tuple[Street, npt.NDArray[np.bool_]]", self.world.streets.items[index]
        )
        slots = []
        for length in self.lengths:
            filled = None
            # A question that does not fit the slot is drawn anew.
            while filled is None:
                question = street_question(rng, street, present)
                filled = slot(question.text, question.answer, length)
            slots.append(filled)
        prefix = domain_sentence(street.time, street.kind) if prefixed else ""
        return prefix, self.world.streets.images[index], slots

    def _scene_row(self, rng: np.random.Generator, prefixed: bool) -> Row:
        index = next(draws(rng, len(self.world.scenes), 1))
        scene = cast(Scene, self.world.scenes.items[index])
        slots = [self.asker.ask(scene, rng, length) for length in self.lengths]
        choice = rng.random()
        prefix = self._prefix(rng, scene, choice) if prefixed else ""
        if prefixed and choice < 0.5:
            # Every other question is about the category that the prefix names.
            for position in range(0, len(slots), 2):
                question = about_it(rng, scene, prefix)
                length = self.lengths[position]
                filled = slot(question.text, question.answer, length)
                slots[position] = filled or self.asker.ask(scene, rng, length)
        return prefix, self.world.scenes.images[index], slots

    def _prefix(self, rng: np.random.Generator, scene: Scene, choice: float) -> str:
        """Return a category, a caption, the random control, or a sentence on another domain."""
        if choice < 0.5:
            # A quarter of the names may be of things that are not there: only the image can tell.
            present = rng.random() < 0.75
            pool = [thing.category for thing in scene.things] if present else list(categories())
            return pool[rng.integers(len(pool))]
        if choice < 0.75:
            return caption(scene, rng, spots=False)
        if choice < 0.9:
            return RANDOM_PREFIX
        return domain_sentence(("day", "night")[rng.integers(2)], "city street")

    def many_images(self, rng: np.random.Generator, batch: int) -> ContextBatch:
        """Draw contexts of two or three images: a comparison, or unrelated scenes.

        The questions say which image they mean.
        """
        prompts: list[list[int]] = []
        images: list[npt.NDArray[np.uint8]] = []
        rows: list[list[Slot]] = []
        for _ in range(batch):
            last: Slot | None = None
            # Half of the contexts are comparisons, whose question takes the longest slot.
            if rng.random() < 0.5:
                index = next(draws(rng, len(self.world.comparisons), 1))
                comparison = cast(Comparison, self.world.comparisons.items[index])
                scenes = list(comparison.scenes)
                views = self.world.comparisons.images[index][: len(scenes)]
                last = slot(comparison.text, comparison.answer, max(self.lengths))
            else:
                indices = list(draws(rng, len(self.world.scenes), int(rng.integers(2, 4))))
                scenes = [cast(Scene, self.world.scenes.items[index]) for index in indices]
                views = self.world.scenes.images[indices]
            slots = [self._about_an_image(rng, scenes, length) for length in self.lengths]
            if last is not None:
                slots[-1] = last
            prompts.append(prompt("", len(scenes)))
            images.append(views)
            rows.append(slots)
        ids, lengths, bias = padded(prompts, MANY_CONTEXT)
        return ContextBatch(ids, lengths, bias, np.concatenate(images), fill(rows))

    def _about_an_image(self, rng: np.random.Generator, scenes: list[Scene], length: int) -> Slot:
        """Ask about one of several images."""
        while True:
            index = int(rng.integers(len(scenes)))
            kind = PER_IMAGE_KINDS[rng.integers(len(PER_IMAGE_KINDS))]
            question = KINDS[kind](scenes[index], rng)
            if question is None:
                continue
            # Of several images each is named by its place in the prompt.
            text = question.text.replace("this image", "the image")
            text = text.replace("the image", f"the {ORDINALS[index]} image")
            filled = slot(text, question.answer, length)
            if filled:
                return filled


__all__ = ["ContextBatch", "Contexts", "plural", "prompt"]
