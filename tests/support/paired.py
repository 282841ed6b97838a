"""Paired questions with planted values and answers, and no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.answering import Answerer
from kvtool.asking.image_replies import change_key
from kvtool.asking.paired.answers import option_letters
from kvtool.datasets import open_dataset, parse_spec
from kvtool.datasets.base import Question
from kvtool.store import Run, hash_json, open_store
from tests.support.units import DIM, PLANTED, Fill, noise, sample, write_run

VALUE_RIGHT, MODEL_RIGHT = set(range(9)), {0, 1, 2, 3, 9, 10}
"""Of 12 questions: 4 both, 5 the values alone, 2 the model alone, 1 neither."""

NO_HEADS = change_key(frozenset())


def questions_of(folder: Path, subset: str) -> list[Question]:
    dataset: Any = open_dataset(parse_spec(f"blink:{folder / subset}@val"))
    questions: list[Question] = dataset.questions()
    return questions


def planted_run(
    path: Path,
    folder: Path,
    questions: Sequence[Question],
    value_right: set[int],
    change: Callable[[Fill], Fill] = lambda fill: fill,
) -> Run:
    """In block PLANTED the right option's vectors are the first image's where the values are to be
    right, else the wrong one's; of one image alone, every channel says the answer. All other blocks
    are noise.
    """
    rng = np.random.default_rng(1)
    vectors: dict[str, Any] = {}
    for number, question in enumerate(questions):
        first, *options = question.image_ids
        answer_index = ord(question.answer[1]) - ord("A")
        vectors[first] = rng.normal(size=DIM)
        if options:
            choice = answer_index if number in value_right else 1 - answer_index
            vectors |= {
                image: vectors[first] * (-1 if i != choice else 1)
                for i, image in enumerate(options)
            }
        else:
            vectors[first] += 5.0 * (2 * answer_index - 1)

    def fill(s: Any, layer: int, head: int) -> Any:
        return (
            np.tile(vectors[s.id], (s.n_tokens, 1))
            if (layer, head) == PLANTED
            else noise(2)(s, layer, head)
        )

    samples = [sample(image, i, (80, 60), (3, 4), newline=True) for i, image in enumerate(vectors)]
    kinds: Any = ("key", "value", "projected", "vision")
    return write_run(path, "blink", "val", folder, samples, change(fill), kinds=kinds)


def plant_answers(run: Run, questions: Sequence[Question], right: set[int]) -> None:
    """What an earlier command would have kept of a model with these questions right."""
    store = open_store(run.store)
    key = Answerer(store, run, None, "cpu", 16).key
    for number, question in enumerate(questions):
        truth = question.answer[1]
        answer = truth if number in right else f"The answer is ({'B' if truth == 'A' else 'A'})."
        if len(question.image_ids) > 1:
            store.save_result(
                hash_json([key, [[image, ""] for image in question.image_ids], question.prompt]),
                {"answer": answer},
            )
        else:
            answers = {NO_HEADS: {question.prompt: answer}}
            store.save_result(hash_json([key, question.image_ids[0], ""]), {"answers": answers})


def plant_options(
    run: Run,
    questions: Sequence[Question],
    log_probabilities: Sequence[Sequence[float] | None],
) -> None:
    """What an earlier command would have kept of a model that finds options so likely."""
    store = open_store(run.store)
    key = Answerer(store, run, None, "cpu", 16).key
    for question, scores in zip(questions, log_probabilities, strict=True):
        pictures = [[image, ""] for image in question.image_ids]
        parts = [key, pictures, question.prompt, "options", option_letters(question)]
        store.save_result(hash_json(parts), {"option_score": scores and list(scores)})
