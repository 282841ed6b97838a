"""Questions asked under interventions, scored by answers and by margins; of several interventions
one is chosen on one half of the pictures and scored on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvtool.asking.answering import Answerer
from kvtool.asking.condition_answers import Answers, subject_of
from kvtool.asking.condition_margins import ConditionMargins
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.head_work import HeadWork
from kvtool.asking.heads import HeadCondition
from kvtool.asking.margin_scores import margin_p, margin_scores
from kvtool.errors import UsageError
from kvtool.experiments.intervene.conditions import candidates, with_controls
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row
from kvtool.stats.bootstrap import Array
from kvtool.stats.halves import halves
from kvtool.stats.multiple import with_holm

MARGINS = tuple(
    f"{name}{end}" for name in ("margin", "margin_change") for end in ("", "_low", "_high")
)


@dataclass(frozen=True)
class Replied:
    """What came of a work: its questions that have answers, these, and their margins.

    Attributes:
        work: The questions and conditions.
        answers: Of each condition.
        margins: (condition, question), NaN where there are none.
    """

    work: HeadWork
    answers: list[Answers]
    margins: Array


@dataclass(frozen=True)
class InterventionStudy:
    """Asks the questions of a work.

    Attributes:
        work: The questions, and all conditions.
        answerer: Which run is asked, and where.
        progress: Called with 1 for each image and pass.
    """

    work: HeadWork
    answerer: Answerer
    progress: Progress

    def ask(self, work: HeadWork) -> Replied:
        """Ask all questions under each condition, and for the margins of those with options."""
        work, answers = work.answered(work.ask(self.answerer, self.progress))
        margins = ConditionMargins.beside_answers(self.answerer).margins(work, self.progress)
        return Replied(work, answers, margins)

    def compared(self) -> tuple[Result, Replied]:
        """Return the result of all conditions, and what it is made of."""
        self.progress(0, "", 2 * self.work.n_images)
        replied = self.ask(self.work)
        return result_of(replied), replied

    def chosen(self) -> tuple[Result, Replied]:
        """Choose a condition on one half of the pictures; return its result on the other, and what
        that is made of. Raises UsageError where all questions are about one picture.
        """
        first, second = self._halves()
        self.progress(0, "", 2 * (first.n_images + second.n_images))
        # The choosing half is asked without controls: only real candidates can be chosen.
        choosing = self.ask(replace(first, conditions=tuple(candidates(first.conditions))))
        scores = [choosing.work.sheet.score_of(answers) for answers in choosing.answers]
        choice = choosing.work.conditions[best_condition(scores, choosing.margins)]
        # The other half is asked under the chosen condition and its controls, beside the model.
        conditions = tuple(with_controls(second.conditions, choice))
        scoring = self.ask(replace(second, conditions=conditions))
        result = result_of(scoring)
        selection = selection_record(choosing, scores, choice)
        # What was left out of either half was left out of all.
        n_skipped = result.n_skipped + len(choosing.work.skipped) - len(first.skipped)
        lines = [*choosing.work.skipped[: n_skipped - result.n_skipped], *result.skipped]
        config = result.config | {"selection": selection}
        return replace(
            result, config=config, n_skipped=n_skipped, skipped=lines[:MAX_REASONS]
        ), scoring

    def _halves(self) -> tuple[HeadWork, HeadWork]:
        """Return the questions about one half of the pictures, and those about the other."""
        work = self.work
        pictures = work.sheet.pictures
        n_pictures = len(np.unique(pictures))
        if n_pictures < 2:
            raise UsageError(
                "intervene: --select split: expected questions about 2 pictures or more, to choose "
                f"on one half and score on the other, found {n_pictures}"
            )
        # Halves share no picture: an answer about one would tell of another about the same.
        parts = halves(len(pictures), work.seed, pictures)
        first, second = (
            replace(work, questions=tuple(work.questions[index] for index in part))
            for part in parts
        )
        return first, second


def best_condition(scores: Sequence[float], margins: Array) -> int:
    """Return which condition is chosen: of all but the first, which is the model as it is, the one
    of the highest score; of equals the one of the highest mean margin, then the first.

    Args:
        scores: Of each condition.
        margins: (condition, question), NaN where there are none.
    """
    # Margins break ties, on questions that have one under every condition.
    comparable = np.isfinite(margins).all(axis=0)
    means = margins[:, comparable].mean(axis=1) if comparable.any() else np.zeros(len(margins))
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    # The last key sorts first: scores, then margins; the model as it is is no candidate.
    order = np.lexsort((-means[1:], -ranked[1:]))
    return 1 + int(order[0])


def selection_record(choosing: Replied, scores: Sequence[float], choice: HeadCondition) -> Row:
    """Return how a condition was chosen: what each candidate scores on the choosing half."""
    entries = [
        {"condition": condition.name, "n_heads": len(condition.heads), "score": score}
        for condition, score in zip(choosing.work.conditions, scores, strict=True)
    ]
    return {
        "chosen": choice.record(),
        "candidates": entries,
        "n_questions": len(choosing.work.questions),
        "n_pictures": len(np.unique(choosing.work.sheet.pictures)),
    }


def result_of(replied: Replied) -> Result:
    """Score the answers of every condition, and their margins."""
    work = replied.work
    result = work.result(replied.answers)
    labels = {condition.name: condition for condition in work.conditions}
    rows = [_labeled(row, labels[row["condition"]]) for row in result.rows]
    rows = margin_rows(rows, replied.answers, replied.margins, work.sheet)
    return replace(result, rows=rows)


def _labeled(row: Row, condition: HeadCondition) -> Row:
    """Return a row with the method, its strength, and which control it is of, if any."""
    fields: Row = {"condition": row["condition"]}
    if condition.method is not None:
        fields |= {"method": condition.method.name, "strength": condition.method.strength}
    if condition.draw is not None:
        fields["control"] = condition.name.rpartition(" ")[2]
    return fields | row


def margin_rows(
    rows: Sequence[Row], answers: Sequence[Answers], margins: Array, sheet: AnswerSheet
) -> list[Row]:
    """Return rows with margins where they are about all questions.

    Only questions count that have margins under every condition. Of several draws the mean is
    taken, which is not tested. Tests are corrected as those of answers.

    Args:
        rows: The rows of conditions.
        answers: The conditions, the first of which is the model as it is.
        margins: (condition, question), NaN where there are none.
        sheet: The questions.
    """
    comparable = np.isfinite(margins).all(axis=0)
    pictures = sheet.pictures[comparable]
    completed = []
    for row in rows:
        # Margins stand in rows of all questions: groups and rows without any have none.
        if sheet.benchmark.label in row or not comparable.any():
            completed.append(row)
            continue
        draws = [
            index
            for index, condition in enumerate(answers)
            if condition.condition == row["condition"]
            and row.get("draw", "all") in ("all", condition.draw)
        ]
        # Draws of a control are averaged question by question.
        pair = np.stack([margins[0], margins[draws].mean(axis=0)], axis=1)[comparable]
        scores = margin_scores(pair, pictures, sheet.seed)
        fields: Row = {name: scores[name] for name in MARGINS} | {"n_margins": len(pair)}
        # The model as it is cannot change against itself.
        if 0 in draws:
            fields = {name: value for name, value in fields.items() if "change" not in name}
        elif row.get("draw") != "all" and answers[draws[0]].subject != answers[0].subject:
            fields["margin_p"] = margin_p(pair[:, 1] - pair[:, 0], pictures)
        completed.append(row | fields)
    return with_holm(
        completed,
        "margin_p",
        "margin_holm_p",
        lambda row: "draw" in row,
        lambda row: subject_of(row, answers),
    )
