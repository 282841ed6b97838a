"""What a predictor that never looks at the picture has right: guesses, and one answer to all.

They are scored as a model's answers are, over the same questions and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

import numpy as np

from kvtool.datasets.base import Question
from kvtool.stats.bootstrap import Array

DRAWS = 8
"""Draws of the predictor that guesses, whose scores are averaged."""
NO_OPTION = "other"
"""The option of an answer that says nothing of what it may."""


def options_of(question: Question, truth: str) -> tuple[str, ...]:
    """Return what may be said to a question; nothing where its answer is a text of its own.

    Args:
        question: the question.
        truth: the right option, as the benchmark reads it.
    """
    if question.choices:
        return tuple(f"({letter})" for letter in ascii_uppercase[: len(question.choices)])
    return ("yes", "no") if truth in ("yes", "no") else ()


def guesses(questions: Sequence[Question], truth: Array, seed: int) -> dict[str, list[Array]]:
    """Return the options, (question,), of each predictor that knows nothing, draw by draw.

    One says any of a question's options alike often; each of the others has one answer to all,
    among them the most common one. There are none where no question has options.
    """
    offered = [options_of(*pair) for pair in zip(questions, truth.tolist(), strict=True)]
    # Every answer that some question offers, each a predictor that says nothing else.
    constants = list(dict.fromkeys(option for options in offered for option in options))
    if not constants:
        return {}
    # Each question has its own number of options: a uniform number is scaled to it.
    rng = np.random.default_rng(seed)
    counts = np.array([len(options) for options in offered])
    guessed = []
    for _ in range(DRAWS):
        picks = (rng.random(len(counts)) * counts).astype(int)
        pairs = zip(offered, picks.tolist(), strict=True)
        guessed.append(
            np.array([options[pick] if options else NO_OPTION for options, pick in pairs])
        )
    predictors = {"guessing": guessed}
    # Where a question does not offer the constant, saying it is an answer that names no option.
    for constant in constants:
        answers = [constant if constant in options else NO_OPTION for options in offered]
        predictors[f"always {constant}"] = [np.array(answers)]
    return predictors
