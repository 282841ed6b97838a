"""Multiple-choice questions about one picture: their choice, answers and scores.

All of CV-Bench, and the four sub-tasks of BLINK that the paper calls perception (appendix A.5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from kvtool.asking.answering import Answer, Answerer
from kvtool.asking.guessing import guesses
from kvtool.asking.records import numbered, scored, side_by_side
from kvtool.datasets.base import DatasetBase, Question
from kvtool.datasets.protocols import HasQuestions
from kvtool.errors import DatasetError
from kvtool.metrics.answers import parse_choice
from kvtool.metrics.choices import BLINK, CVBENCH, ChoiceCell, accuracy, choice_scores, choice_units
from kvtool.progress import Progress
from kvtool.result import Row, best_row
from kvtool.stats.bootstrap import Array

BENCHMARKS = (CVBENCH, BLINK)
PERCEPTION = ("Counting", "Object_Localization", "Relative_Depth", "Spatial_Relation")
"""Of BLINK's sub-tasks; all of them ask about one picture."""
NO_HEADS: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question of a benchmark; equal ones have the same text, choices, answer and picture id."""

    benchmark: str
    question: Question

    @property
    def image(self) -> str:
        """The id of the picture that the question is about."""
        return self.question.image_ids[0]

    @property
    def cell(self) -> ChoiceCell:
        """The task or sub-task and the collection of images, within which scores are averaged."""
        return ChoiceCell(self.benchmark, self.question.group, self.question.source)

    @property
    def truth(self) -> str:
        """The right option, "(A)"; "" where the benchmark names none of the choices."""
        return self.read(self.question.answer)

    def read(self, answer: str) -> str:
        """Return the option that an answer names, "" where it names none."""
        return parse_choice(answer, self.question.choices)


def perception(dataset: DatasetBase, images: Collection[str]) -> list[ChoiceQuestion]:
    """Return the questions whose picture is in `images`, in the benchmark's order; of BLINK those
    of PERCEPTION.

    Raises DatasetError for a question whose answer names none of its choices.
    """
    # Of BLINK, only perception is asked of one picture's values; other data sets are taken whole.
    questions = dataset.questions() if isinstance(dataset, HasQuestions) else []
    choices = [
        ChoiceQuestion(dataset.name, entry)
        for entry in questions
        if len(entry.image_ids) == 1
        and entry.image_ids[0] in images
        and (dataset.name != BLINK or entry.group in PERCEPTION)
    ]
    # A question without a right choice would count as wrong for every model.
    for choice in choices:
        if not choice.truth:
            question = choice.question
            raise DatasetError(
                f"{dataset.name}: {dataset.root}: question {question.id}: expected an answer that "
                "names one of its "
                f"{len(question.choices)} choices, found {question.answer!r}; use the official "
                "files"
            )
    return choices


def first_of_cells(questions: Sequence[ChoiceQuestion], limit: int | None) -> list[ChoiceQuestion]:
    """Return the first questions, at most `limit`, of each cell in their order.

    A cell is a task or sub-task and a collection of images.
    """
    # The limit is of each cell, since cells are averaged whatever their size.
    seen: dict[ChoiceCell, int] = {}
    first = []
    for question in questions:
        seen[question.cell] = seen.get(question.cell, 0) + 1
        if limit is None or seen[question.cell] <= limit:
            first.append(question)
    return first


def ask(
    answerer: Answerer, questions: Sequence[ChoiceQuestion], progress: Progress
) -> dict[ChoiceQuestion, Answer]:
    """Return what the model says to each question; the answerer's run holds the pictures."""
    texts: dict[str, list[str]] = {}
    for question in questions:
        texts.setdefault(question.image, []).append(question.question.prompt)
    answers = answerer.ask(texts, [NO_HEADS], progress)[NO_HEADS]
    return {question: answers[question.image][question.question.prompt] for question in questions}


def score_choices(
    questions: Sequence[ChoiceQuestion],
    answers: Sequence[str],
    seed: int,
    digests: Mapping[str, str] | None = None,
) -> tuple[Row, list[Row]]:
    """Return the scores with intervals, see choice_scores, and a row for each task or sub-task.

    Pictures are resampled with all questions about them, within the cell that asks first, the same
    resamples for every model. The rows count the questions as n, the pictures as n_pictures, and as
    n_other the answers that name no choice, which are wrong. `digests` tell the pictures of image
    ids apart, since a benchmark has one picture under several ids; without one the id does. chance
    is the accuracy of what knows nothing, see kvtool.asking.guessing.
    """
    options = [question.read(answer) for question, answer in zip(questions, answers, strict=True)]
    truth = np.array([question.truth for question in questions])
    # An answer that names no choice is wrong, and counted apart.
    correct = np.array(options) == truth
    unreadable = np.array([not option for option in options])
    # What knows nothing is scored on the same questions, as the mean of its draws.
    guessed = guesses([question.question for question in questions], truth, seed)
    right = {name: np.mean(np.array(draws) == truth, axis=0) for name, draws in guessed.items()}
    # Cells are averaged, so each is a stratum: every resample must hold questions of all of them.
    cells = list(dict.fromkeys(question.cell for question in questions))
    cell_of_question = np.array([cells.index(question.cell) for question in questions])
    members = [np.flatnonzero(cell_of_question == number) for number in range(len(cells))]
    images = [question.image for question in questions]
    # Questions about one picture are not independent: they are resampled together.
    picture = numbered((digests or {}).get(image) or image for image in images)

    def total(shares: Array) -> Row:
        """Score the share of each question that is right, of all cells together."""
        units, strata = side_by_side([choice_units(shares[rows]) for rows in members])
        pictures = picture[np.concatenate(members)]
        return scored(units, choice_scores(cells), strata=strata, clusters=pictures, seed=seed)

    def part(rows: Array, shares: Array) -> Row:
        """Score some of the questions, by their indices."""
        units = choice_units(shares[rows])
        return scored(units, accuracy, clusters=picture[rows], seed=seed)

    # CV-Bench averages sources within a task: cells of one task and sub-task are shown as one row.
    groups: dict[tuple[str, str], list[Array]] = {}
    for cell, rows in zip(cells, members, strict=True):
        groups.setdefault(cell[:2], []).append(rows)
    parts = []
    for (benchmark, group), cell_rows in groups.items():
        rows = np.concatenate(cell_rows)
        labels = {"benchmark": benchmark, "subset": group}
        scores = _beside_guesses(partial(part, rows), correct, right)
        parts.append({**labels, **scores, **_counts(unreadable[rows], picture[rows])})
    return _beside_guesses(total, correct, right) | _counts(unreadable, picture), parts


def _beside_guesses(
    score: Callable[[Array], Row], correct: Array, guessed: Mapping[str, Array]
) -> Row:
    """Return the scores of answers, and the accuracy of the best predictor that knows nothing.

    Args:
        score: scores the share of each question (question,) that is right.
        correct: which answers are right, (question,).
        guessed: of each predictor the share of its draws that are right, (question,).
    """
    # What knows nothing is scored by the same function, cells and resamples.
    levels = [{"chance_kind": name, **score(shares)} for name, shares in guessed.items()]
    best = best_row(levels, "accuracy")
    if best is None:
        return score(correct)
    chance = {f"chance{end}": best[f"accuracy{end}"] for end in ("", "_low", "_high")}
    return score(correct) | chance | {"chance_kind": best["chance_kind"]}


def _counts(unreadable: Array, picture: Array) -> Row:
    return {
        "n": len(unreadable),
        "n_pictures": len(np.unique(picture)),
        "n_other": int(unreadable.sum()),
    }
