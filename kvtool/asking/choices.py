"""Multiple-choice questions about one picture: which a model can be asked and scored on, and how it
fares.

CV-Bench whole, and the four sub-tasks of BLINK that the paper calls perception (appendix A.5).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from kvtool.asking.answering import Answerer, Progress
from kvtool.asking.records import scored, side_by_side
from kvtool.datasets.base import DatasetBase, Question
from kvtool.errors import DatasetError
from kvtool.metrics.answers import parse_choice
from kvtool.metrics.choices import BLINK, CVBENCH, ChoiceCell, accuracy, choice_scores, choice_units
from kvtool.result import Row
from kvtool.stats.bootstrap import Array

BENCHMARKS = (CVBENCH, BLINK)
PERCEPTION = ("Counting", "Object_Localization", "Relative_Depth", "Spatial_Relation")
"""Of BLINK's sub-tasks; all of them ask about one picture."""
NO_HEADS: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question of a benchmark. Equal ones are the same question: text, choices, answer and
    picture's id."""

    benchmark: str
    question: Question

    @property
    def image(self) -> str:
        return self.question.image_ids[0]

    @property
    def cell(self) -> ChoiceCell:
        return ChoiceCell(self.benchmark, self.question.group, self.question.source)

    @property
    def truth(self) -> str:
        """The right option, "(A)"; "" where the benchmark names none of the choices."""
        return self.read(self.question.answer)

    def read(self, answer: str) -> str:
        return parse_choice(answer, self.question.choices)


def perception(dataset: DatasetBase, held: Collection[str]) -> list[ChoiceQuestion]:
    """The questions of a benchmark whose picture is held, in its order; of BLINK those of
    PERCEPTION.

    Raises DatasetError for one whose answer names none of its choices.
    """
    questions: list[Question] = dataset.questions()  # type: ignore[attr-defined]
    asked = [
        ChoiceQuestion(dataset.name, question)
        for question in questions
        if len(question.image_ids) == 1
        and question.image_ids[0] in held
        and (dataset.name != BLINK or question.group in PERCEPTION)
    ]
    for each in asked:
        if not each.truth:
            one = each.question
            raise DatasetError(
                f"{dataset.name}: {dataset.root}: question {one.id}: expected an answer that "
                "names one of its "
                f"{len(one.choices)} choices, found {one.answer!r}; use the official files"
            )
    return asked


def first_of_cells(asked: Sequence[ChoiceQuestion], limit: int | None) -> list[ChoiceQuestion]:
    """The first questions of each task or sub-task and collection of images, at most `limit`; their
    order stays."""
    seen: dict[ChoiceCell, int] = {}
    kept = []
    for each in asked:
        seen[each.cell] = seen.get(each.cell, 0) + 1
        if limit is None or seen[each.cell] <= limit:
            kept.append(each)
    return kept


def ask(
    answerer: Answerer, asked: Sequence[ChoiceQuestion], progress: Progress
) -> dict[ChoiceQuestion, str]:
    """What the model says to each question; the answerer's run holds the pictures."""
    texts: dict[str, list[str]] = {}
    for each in asked:
        texts.setdefault(each.image, []).append(each.question.prompt)
    found = answerer.ask(texts, [NO_HEADS], progress)[NO_HEADS]
    return {each: found[each.image][each.question.prompt] for each in asked}


def score_choices(
    asked: Sequence[ChoiceQuestion], answers: Sequence[str], seed: int
) -> tuple[Row, list[Row]]:
    """Scores with intervals, see choice_scores; and a row for each task or sub-task.

    Questions are resampled within their task or sub-task and collection of images, the same
    resamples whoever answers. n: questions; n_other: answers that name no choice, which are wrong.
    """
    said = [each.read(answer) for each, answer in zip(asked, answers, strict=True)]
    correct = np.array([option == each.truth for option, each in zip(said, asked, strict=True)])
    other = np.array([not option for option in said])
    cells = list(dict.fromkeys(each.cell for each in asked))
    members = [np.flatnonzero([each.cell == cell for each in asked]) for cell in cells]
    units, strata = side_by_side([choice_units(correct[at]) for at in members])
    row = scored(units, choice_scores(cells), strata=strata, seed=seed)
    groups: dict[tuple[str, str], list[Array]] = {}
    for cell, at in zip(cells, members, strict=True):
        groups.setdefault(cell[:2], []).append(at)
    return row | _counts(other), [
        {"benchmark": benchmark, "subset": group} | _group(correct, other, np.concatenate(at), seed)
        for (benchmark, group), at in groups.items()
    ]


def _group(correct: Array, other: Array, at: Array, seed: int) -> Row:
    return scored(choice_units(correct[at]), accuracy, seed=seed) | _counts(other[at])


def _counts(other: Array) -> Row:
    return {"n": len(other), "n_other": int(other.sum())}
