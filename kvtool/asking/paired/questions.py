"""The questions of a paired task over the images of a run, and how the values answer them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kvtool.asking.paired.folds import stratified_folds
from kvtool.asking.paired.points import PointQuestion, make_questions
from kvtool.asking.paired.readings import (
    LinearProbe,
    MeanCosine,
    PointCosine,
    ValueReading,
)
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.tasks.semantic_correspondence import check_pair
from kvtool.tasks.truth import LeftOut, Sizes

ORDINALS = ("first", "second", "third", "fourth")
N_POINTS = 200
FOLDS = 5
C = 0.01
"""Inverse L2 strength of the linear probe: some hundred questions have about as many as a head has
channels."""
HIDDEN_ANSWER = "its answer is hidden"
NOT_HELD = "the run does not hold"


@dataclass(frozen=True)
class PairedQuestions:
    """The questions of a task over a run, and how the values answer them.

    Args:
        questions: the questions that can be asked.
        reading: how the values answer them.
        left_out: the questions that were left out, with reasons.
        settings: options that the questions or the reading depend on.
        points: each question's points, for semantic correspondence; their pictures are marked
            before the model sees them.
    """

    questions: list[Question]
    reading: ValueReading
    left_out: LeftOut
    settings: dict[str, Any]
    points: list[PointQuestion] | None = None


def semantic_correspondence(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Make questions of the pairs whose images the run holds, in the size that the pair's
    annotation says."""
    del subset
    pairs = dataset.pairs()
    left_out = LeftOut.of(dataset)
    # A pair needs both of its images.
    complete = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids.keys()]
    # Pairs that cannot be used are left out before the questions are drawn, or n would not be
    # reached.
    usable = left_out.usable(complete, lambda pair: check_pair(pair, ids))
    points = make_questions(usable, N_POINTS if n is None else n, seed)
    left_out.many(
        len(pairs) - len(complete), f"of {len(pairs)} pairs have an image that {NOT_HELD}"
    )
    return PairedQuestions(
        [point.question for point in points], PointCosine(tuple(points)), left_out, {}, points
    )


def compared_images(
    dataset: Any, ids: Sizes, subset: str, n: int | None, seed: int
) -> PairedQuestions:
    """Ask which option's image goes with the first one."""
    del seed
    questions, left_out = _of_subset(dataset, ids, subset, _is_of_several_images)
    usable = []
    images = []
    # Choices that do not say which image they mean cannot be answered by cosines.
    for question in questions:
        options = option_images(question)
        if options is None:
            left_out.bad(
                f"question {question.id}: its choices {list(question.choices)} do not name its "
                "images"
            )
            continue
        usable.append(question)
        images.append((question.image_ids[0], *(question.image_ids[index] for index in options)))
    return PairedQuestions(usable[:n], MeanCosine(tuple(images[:n])), left_out, {})


def option_images(question: Question) -> tuple[int, ...] | None:
    """Return the index of the image that each choice speaks of; None where that is not clear.

    A choice speaks of it by its ordinal, else in order after the first.
    """
    options = range(1, len(question.image_ids))
    # A choice may name its image: "the second image".
    pattern = rf"\b({'|'.join(ORDINALS)})\b"
    ordinals = [re.findall(pattern, choice.lower()) for choice in question.choices]
    # Ordinals count only where every choice has exactly one, each another.
    indices = [ORDINALS.index(names[0]) for names in ordinals if len(names) == 1]
    is_distinct = len(indices) == len(ordinals) == len(set(indices))
    if indices and is_distinct and set(indices) <= set(options):
        return tuple(indices)
    # Choices without ordinals name the images after the first in their order.
    if not any(ordinals) and len(question.choices) == len(options):
        return tuple(options)
    return None


def probed_image(
    dataset: Any,
    ids: Sizes,
    subset: str,
    n: int | None,
    seed: int,
    *,
    folds: int = FOLDS,
    c: float = C,
) -> PairedQuestions:
    """Ask A or B of one image. Raises UsageError where too few questions are left to train on."""
    questions, left_out = _of_subset(dataset, ids, subset, _is_of_one_image)
    usable = [question for question in questions if _is_of_one_image(question)]
    fit = {question.id for question in usable}
    for question in questions:
        if question.id not in fit:
            left_out.bad(f"question {question.id}: expected one image and two choices")
    usable = usable[:n]
    # Two choices make a binary label for the probe.
    labels = [int(question.answer == "(B)") for question in usable]
    images = tuple(question.image_ids[0] for question in usable)
    # A fold takes all questions about an image, so that images count.
    counts = Counter(label for label, _ in set(zip(labels, images, strict=True)))
    fewest = min(counts[0], counts[1])
    if usable and fewest < 2:
        raise UsageError(
            f"{subset or dataset.name}: expected two images or more with each answer to train a "
            f"probe, found {counts[0]} with (A) and {counts[1]} with (B); extract more of them"
        )
    # Every fold must leave questions of both answers to train on.
    folds = min(folds, max(fewest, 2))
    fold_of_question = stratified_folds(labels, folds, seed, images)
    reading = LinearProbe(images, tuple(labels), fold_of_question, c)
    return PairedQuestions(usable, reading, left_out, {"folds": folds, "c": c})


def _is_of_several_images(question: Question) -> bool:
    """Return whether a question is about several images."""
    return len(question.image_ids) > 1


def _is_of_one_image(question: Question) -> bool:
    """Return whether a question is about one image and has two choices."""
    return len(question.image_ids) == 1 and len(question.choices) == 2


def _of_subset(
    dataset: Any, ids: Sizes, subset: str, suits: Callable[[Question], bool]
) -> tuple[list[Question], LeftOut]:
    """Return a subset's questions whose images the run holds and whose answer is one of the
    choices.

    Without a subset, these are among the questions with choices that suit. A line for each of the
    others gives the reason.
    """
    usable = []
    listed = dataset.questions()
    left_out = LeftOut.of(dataset)
    for question in listed:
        if not (question.group == subset if subset else question.choices and suits(question)):
            continue
        # An answer must be one of the choices' letters, or the question has no truth.
        letters = [f"({chr(ord('A') + index)})" for index in range(len(question.choices))]
        if absent := [image for image in question.image_ids if image not in ids]:
            left_out.absent(f"question {question.id}: {NOT_HELD} {', '.join(absent)}")
        elif not question.answer:
            left_out.absent(f"question {question.id}: {HIDDEN_ANSWER}")
        elif question.answer not in letters:
            left_out.bad(
                f"question {question.id}: expected an answer of {', '.join(letters)}, found "
                f"{question.answer!r}"
            )
        else:
            usable.append(question)
    return usable, left_out
