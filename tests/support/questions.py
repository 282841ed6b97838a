"""Questions as POPE's real files have them, and answers under two conditions that do not differ."""

from __future__ import annotations

import numpy as np

from kvtool.datasets.base import Question

FILES = ("random", "popular", "adversarial")
THINGS = 3
"""Per picture: three things that are there, asked about in every file, and in each file three
others that are not."""


def pope_questions(n_pictures: int) -> list[Question]:
    """Return the questions of three files about pictures "0", "1", ..."""
    questions: list[Question] = []
    for file in FILES:
        for picture in range(n_pictures):
            for thing in range(THINGS):
                for answer, name in (("yes", f"thing {thing}"), ("no", f"{file} {thing}")):
                    text = f"Is there a {name}?"
                    number = f"{file}/{len(questions)}"
                    questions.append(Question(number, (str(picture),), text, text, answer, file))
    return questions


def pope_answers(
    questions: list[Question], rng: np.random.Generator, kind: str
) -> tuple[list[str], list[str]]:
    """Return answers before and after, right in 80 %; a fifth is drawn anew in between.

    What is drawn anew are single questions, or all questions about a picture ("pictures"), for
    which the share of right answers is drawn anew too. A question asked again has its answer.
    """
    before: dict[tuple[str, str], bool] = {}
    after: dict[tuple[str, str], bool] = {}
    rates: dict[str, tuple[bool, float, float]] = {}
    for question in questions:
        picture = question.image_ids[0]
        key = (picture, question.text)
        if key in before:
            continue
        draws = rates.setdefault(picture, (rng.random() < 0.4, *rng.beta(4, 1, size=2)))
        again = draws[0] if kind == "pictures" else rng.random() < 0.2
        rate = draws[1] if kind == "pictures" else 0.8
        new_rate = draws[2] if kind == "pictures" else 0.8
        before[key] = rng.random() < rate
        after[key] = rng.random() < new_rate if again else before[key]
    wrong = {"yes": "no", "no": "yes"}
    texts = []
    for right in (before, after):
        texts.append(
            [
                question.answer
                if right[question.image_ids[0], question.text]
                else wrong[question.answer]
                for question in questions
            ]
        )
    return texts[0], texts[1]
