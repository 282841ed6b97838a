"""What is asked about a run's pictures to see where it looks, and the objects it is about.

Inquiries come from a question of the user's, from a benchmark, or from the sentences of RefCOCO.
Where the data set knows the object that a text names, the inquiry has its mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvtool.asking.benchmarks import unaskable
from kvtool.asking.wording import Wording
from kvtool.datasets.base import DatasetBase, Question
from kvtool.datasets.protocols import HasConcepts, HasEpisodes, HasExpressions, HasMaskFiles
from kvtool.datasets.records import CONCEPTS
from kvtool.errors import DatasetError, UsageError
from kvtool.store import Run
from kvtool.tasks.truth import check_shape

Array = np.ndarray[Any, Any]
EPISODES = "foreground-segmentation"
"""The task of what has episodes."""
CONCEPT = "{concept}"
"""Stands in a question for each thing that a picture shows."""
PLACEHOLDER = re.compile(r"(?<![\w\\}])\{\w+\}")
"""What looks like one; braces behind a word or another brace are a formula's."""


@dataclass(frozen=True)
class Inquiry:
    """A text about a picture.

    Attributes:
        id: A name of its own.
        image: The picture's id.
        text: What the user says.
        target: What it is about, in a word; empty where that is not known.
        mask: Gives the object's mask, (height, width): 1 where it is, 0 where it is not, 255 void;
            None where nothing is known of it.
    """

    id: str
    image: str
    text: str
    target: str = ""
    mask: Callable[[], Array] | None = field(default=None, compare=False, repr=False)


@dataclass
class Things:
    """The things that a data set's pictures show, with their masks.

    Attributes:
        dataset: The data set, with concepts or with label maps of episodes; None for none.
        skipped: A line for each picture whose annotation cannot be used.
    """

    dataset: DatasetBase | None
    skipped: list[str] = field(default_factory=list)
    _latest: tuple[str, dict[str, Array]] = ("", {})

    @property
    def has_masks(self) -> bool:
        """Whether the data set knows any."""
        return self._has_concepts or self._has_episodes

    @property
    def _has_concepts(self) -> bool:
        return self._serves(CONCEPTS) and isinstance(self.dataset, HasConcepts)

    @property
    def _has_episodes(self) -> bool:
        return self._serves(EPISODES) and isinstance(self.dataset, HasEpisodes)

    def _serves(self, service: str) -> bool:
        """Tell whether the files of a service are there: own data may have no masks."""
        return self.dataset is not None and not self.dataset.lacks(service)

    def shown(self, image: str, wh_px: tuple[int, int]) -> dict[str, Array]:
        """Return the masks of the things that a picture shows, by their words; those of the latest
        picture are at hand.
        """
        if self._latest[0] != image:
            self._latest = image, self._checked(image, wh_px)
        return self._latest[1]

    def mask(self, image: str, wh_px: tuple[int, int], word: str) -> Callable[[], Array]:
        """Return what reads the mask of a thing that a picture shows."""
        return lambda: self.shown(image, wh_px)[word]

    def _checked(self, image: str, wh_px: tuple[int, int]) -> dict[str, Array]:
        try:
            # Void pixels alone show nothing of a thing.
            masks = {word: mask for word, mask in self._masks(image).items() if (mask == 1).any()}
            for mask in masks.values():
                check_shape(mask, wh_px, f"image {image}")
        except DatasetError as error:
            self.skipped.append(f"image {image}: {error}")
            return {}
        return masks

    def _masks(self, image: str) -> dict[str, Array]:
        dataset: Any = self.dataset
        # No mask is no fault: its texts have all measures but those of the object.
        if isinstance(dataset, HasMaskFiles) and not dataset.has_label_map(image):
            return {}
        # Data sets name their objects in two ways: concepts of a picture, or classes of episodes.
        if self._has_concepts:
            return dict(dataset.concept_masks(image))
        if self._has_episodes:
            class_ids = [entry.class_id for entry in dataset.entries() if entry.image_id == image]
            return {
                dataset.name_of_class(class_id): dataset.class_mask(image, class_id)
                for class_id in class_ids
            }
        return {}


def named_thing(text: str, words: Iterable[str]) -> str:
    """Return the only one of some words that a text names, the longest of those that lie within
    each other; empty where it names none or several.
    """
    candidates = [word for word in words if _names(text, word)]
    # A name within a longer one, as bus in school bus, is not meant by itself.
    longest = [
        word
        for word in candidates
        if not any(word != longer and _names(longer, word) for longer in candidates)
    ]
    return longest[0] if len(longest) == 1 else ""


def _names(text: str, word: str) -> bool:
    """Tell whether a text has a word by itself, in the singular or with an s."""
    pattern = rf"(?<!\w){re.escape(word)}(?:s|es)?(?!\w)"
    return re.search(pattern, text, re.IGNORECASE) is not None


def inquiries_of_question(
    run: Run, text: str, images: Sequence[str], things: Things
) -> list[Inquiry]:
    """Return a question about each of some pictures; with {concept}, about each thing that they
    show. Raises UsageError for a question that is empty, and for another placeholder.
    """
    if not text.strip():
        raise UsageError("--question: expected a text, found an empty one")
    # Any other placeholder is a slip: the model would be asked the braces.
    if unknown := set(PLACEHOLDER.findall(text)) - {CONCEPT}:
        raise UsageError(
            f"--question: expected no placeholder but {CONCEPT}, found {min(unknown)}; a text that "
            "is to hold it as it stands goes into questions.jsonl of own:DIR"
        )
    inquiries: list[Inquiry] = []
    for image in images:
        wh_px = run.image(image).sample.image_wh_px
        words = things.shown(image, wh_px)
        # With a placeholder a question is asked of each thing in the picture, with its mask.
        if CONCEPT in text:
            inquiries += [
                Inquiry(
                    f"{image}-{word}",
                    image,
                    text.replace(CONCEPT, word),
                    word,
                    things.mask(image, wh_px, word),
                )
                for word in words
            ]
            continue
        # Without one, the thing that the text names, if the picture shows it, is where to look.
        word = named_thing(text, words)
        mask = things.mask(image, wh_px, word) if word else None
        inquiries.append(Inquiry(image, image, text, word, mask))
    if not inquiries:
        raise UsageError(
            f"--question: expected pictures with masks of things to put in place of {CONCEPT}, "
            f"found none among {len(images)} of {run.config.dataset}"
        )
    return inquiries


def inquiries_of_questions(
    run: Run,
    questions: Sequence[Question],
    failed: dict[str, str],
    wording: Wording,
    things: Things,
) -> tuple[list[Inquiry], list[str]]:
    """Return the questions of a benchmark about pictures of a run, and a line for each that cannot
    be asked."""
    ids = set(run.ids)
    inquiries: list[Inquiry] = []
    skipped = []
    for question in questions:
        # What is not public is an answer: where a question looks is seen without it.
        reason = unaskable(replace(question, answer=question.answer or "-"), failed)
        if reason:
            skipped.append(f"question {question.id}: {reason}")
            continue
        image = question.image_ids[0]
        if image not in ids:
            continue
        wh_px = run.image(image).sample.image_wh_px
        # The mask is of the thing that the question names, where the picture has a mask of it.
        word = named_thing(question.text, things.shown(image, wh_px))
        mask = things.mask(image, wh_px, word) if word else None
        name = f"{question.group}-{question.id}" if question.group else question.id
        inquiries.append(Inquiry(name, image, wording.prompt(question), word, mask))
    return inquiries, skipped


def inquiries_of_expressions(dataset: HasExpressions, images: Sequence[str]) -> list[Inquiry]:
    """Return RefCOCO's sentences about some pictures, each with its object."""
    ids = set(images)

    def mask_of(expression: Any) -> Callable[[], Array]:
        """Return what reads the object's mask."""
        return lambda: dataset.object_mask(expression)

    return [
        Inquiry(
            str(expression.sent_id),
            expression.image_id,
            expression.text,
            expression.category,
            mask_of(expression),
        )
        for expression in dataset.expressions()
        if expression.image_id in ids
    ]
