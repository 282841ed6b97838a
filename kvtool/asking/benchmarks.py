"""Questions to ask about one image each: POPE's, MME's and those of other data sets, and scores of
their answers under conditions side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvtool.asking.mme import mean_scores
from kvtool.asking.pope import pooled_and_macro
from kvtool.asking.records import scored, side_by_side
from kvtool.datasets import DATASETS, open_dataset, parse_spec
from kvtool.datasets.base import DatasetBase, Question
from kvtool.errors import UsageError
from kvtool.metrics.answers import (
    mme_scores,
    mme_units,
    parse_choice,
    parse_mme,
    parse_pope,
    pope_scores,
    pope_units,
)
from kvtool.metrics.choices import accuracy, choice_units
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, Scores, ratio
from kvtool.stats.mcnemar import mcnemar

FIRST = ("f1", "macro_f1", "score", "mme*", "accuracy", "acc", "acc_plus", "yes_ratio")
"""Scores that lead a row."""


@dataclass(frozen=True)
class Benchmark:
    """Questions about images, yes-or-no ones of POPE and MME.

    Args:
        label: what rows call its groups.
        metric: as in Result.
        unit: as in Result.
        is_official: whether the benchmark has answer files of its own.
    """

    name: str
    label: str
    metric: str
    unit: str
    read_option: Callable[[str, Question], str]
    """Returns what an answer's text says to a question: yes, no, an option; "other" where it says
    none of what it may."""
    units: Callable[[Array, Array], Array]
    """Two (question,) bools, said yes and is yes, and right answers too, as (unit, k) to be
    summed."""
    unit_of: Callable[[Question], Hashable]
    """What a question is scored together with; questions of one unit follow each other within
    their group."""
    group_scores: Scores
    all_scores: Callable[[Sequence[str]], Scores]
    """Of groups' names: scores of their sums side by side, (..., group * k)."""
    truth: Callable[[Question], str] = lambda question: question.answer.lower()
    """What an answer has to say to be right."""
    is_official: bool = True


def _pope_summary(_files: Sequence[str]) -> Scores:
    return lambda sums: _led(pooled_and_macro(sums))


def _mme_units(answered: Array, correct: Array) -> Array:
    """Return mme_units of each image's two questions, and how many were answered yes."""
    yes = answered.reshape(-1, 2).sum(axis=1).astype(np.float64)
    return np.column_stack([mme_units(correct.reshape(-1, 2)), yes])


def _mme_scores(sums: Array) -> dict[str, Array]:
    return _led(mme_scores(sums[..., :4]) | {"yes_ratio": 100 * ratio(sums[..., 4], sums[..., 1])})


def _mme_summary(subsets: Sequence[str]) -> Scores:
    """Return the scores of kvtool score, and the mean over subsets of yes_ratio."""
    answer_scores = mean_scores(subsets)

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., 5 * subset)."""
        by_subset = sums.reshape(*sums.shape[:-1], -1, 5)
        answer_sums = by_subset[..., :4].reshape(*sums.shape[:-1], -1)
        return _led(
            answer_scores(answer_sums)
            | {"yes_ratio": _mme_scores(by_subset)["yes_ratio"].mean(axis=-1)}
        )

    return scores


def _led(scores: Mapping[str, Array]) -> dict[str, Array]:
    """Return scores in the order of rows: those of FIRST, then the others."""
    leading = [name for name in FIRST if name in scores]
    return {name: scores[name] for name in dict.fromkeys([*leading, *scores])}


BENCHMARKS = {
    "pope": Benchmark(
        name="pope",
        label="file",
        metric="f1",
        unit="fraction",
        read_option=lambda answer, _: parse_pope(answer),
        units=lambda answered, correct: pope_units(answered, answered == correct),
        unit_of=lambda question: question.id,
        group_scores=lambda sums: _led(pope_scores(sums)),
        all_scores=_pope_summary,
    ),
    "mme": Benchmark(
        name="mme",
        label="subset",
        metric="score",
        unit="percent",
        read_option=lambda answer, _: parse_mme(answer),
        units=_mme_units,
        unit_of=lambda question: (question.group, question.image_ids[0]),
        group_scores=_mme_scores,
        all_scores=_mme_summary,
    ),
}


def own_benchmark(name: str) -> Benchmark:
    """Return the benchmark of any other data set with questions: the share of right answers, of all
    and of each group.

    A question with choices is answered by one of them, see kvtool.metrics.answers.parse_choice; one
    whose answer is yes or no as POPE reads answers; any other by the very answer, case and a period
    at its end aside.
    """
    return Benchmark(
        name=name,
        label="group",
        metric="accuracy",
        unit="fraction",
        read_option=_option,
        units=lambda _, correct: choice_units(correct),
        unit_of=lambda question: question.id,
        group_scores=accuracy,
        all_scores=lambda _: _pooled_accuracy,
        truth=_plain_answer,
        is_official=False,
    )


def _pooled_accuracy(sums: Array) -> dict[str, Array]:
    """Return the accuracy of all questions, and the mean of the groups' accuracies."""
    by_group = sums.reshape(*sums.shape[:-1], -1, 2)
    macro = accuracy(by_group)["accuracy"].mean(axis=-1)
    return accuracy(by_group.sum(axis=-2)) | {"macro_accuracy": macro}


def _option(answer: str, question: Question) -> str:
    """Return what an answer says to a question of own_benchmark; "other" where it says nothing."""
    if question.choices:
        return parse_choice(answer, question.choices) or "other"
    if _plain_answer(question) in ("yes", "no"):
        return parse_pope(answer)
    return plain_text(answer) or "other"


def _plain_answer(question: Question) -> str:
    """Return what an answer has to say to be right: a choice's letter, or a plain text."""
    return question.answer if question.choices else plain_text(question.answer)


def plain_text(answer: str) -> str:
    """Return a short answer in lower case on one line, without a period at its end."""
    return " ".join(answer.split()).rstrip(".").casefold()


def open_benchmark(spec: str) -> tuple[Benchmark, DatasetBase]:
    """Open a benchmark and its data set: pope:PATH, mme:PATH[@all], scenes (its POPE), scenes@mme,
    or any other data set with questions, e.g. own:PATH.

    Raises UsageError.
    """
    parsed = parse_spec(spec)
    if parsed.name == "scenes" and parsed.split is None:
        parsed = replace(parsed, split="pope")
    name = str(parsed.split) if parsed.name == "scenes" else parsed.name
    if not _has_questions(name):
        dataset_names = [
            dataset
            for dataset in DATASETS.names()
            if dataset not in BENCHMARKS and _has_questions(dataset)
        ]
        specs = [f"{dataset}:PATH" for dataset in (*BENCHMARKS, *dataset_names)]
        examples = ", ".join([*specs, "scenes", "scenes@mme"])
        raise UsageError(f"benchmark: expected one of {examples}; found {spec!r}")
    return BENCHMARKS.get(name) or own_benchmark(name), open_dataset(parsed)


def _has_questions(name: str) -> bool:
    """Return whether a data set has questions, see kvtool.datasets.protocols.HasQuestions."""
    return hasattr(DATASETS.load(name), "questions")


def unaskable(question: Question, failures: Mapping[str, str]) -> str:
    """Return why a question cannot be asked from one stored cache; "" where it can.

    `failures` are the reasons, by id, of images without a cache.
    """
    if len(question.image_ids) > 1:
        return f"it is about {len(question.image_ids)} images, and a stored cache is of one"
    if not question.answer:
        return "its answer is not public"
    return failures.get(question.image_ids[0], "")


@dataclass(frozen=True)
class Answers:
    """The answers of one condition, or of one draw of it: a text for each question."""

    condition: str
    draw: int | None
    n_heads: int
    texts: tuple[str, ...]

    @property
    def label(self) -> str:
        """A name for files: none, dependent-0."""
        return self.condition if self.draw is None else f"{self.condition}-{self.draw}"


def score_conditions(
    benchmark: Benchmark, questions: Sequence[Question], conditions: Sequence[Answers], seed: int
) -> Iterator[Row]:
    """Yield the rows of each condition: all groups together, then each group.

    Of several draws their mean comes first, then each draw with all groups together. McNemar's test
    compares every condition with the first one. All intervals are over the same resamples.
    """
    sheet = AnswerSheet(benchmark, questions)
    baseline = sheet.correct(conditions[0])
    for name in dict.fromkeys(condition.condition for condition in conditions):
        draws = [condition for condition in conditions if condition.condition == name]
        yield from sheet.rows(draws, None if name == conditions[0].condition else baseline, seed)


class AnswerSheet:
    """The questions of a benchmark group by group, as their answers are scored."""

    def __init__(self, benchmark: Benchmark, questions: Sequence[Question]) -> None:
        self.benchmark = benchmark
        self.questions = questions
        self.truth = np.array([benchmark.truth(question) for question in questions])
        groups = np.array([question.group for question in questions])
        self.groups = {
            str(name): np.flatnonzero(groups == name) for name in dict.fromkeys(groups.tolist())
        }

    def options(self, answers: Answers) -> Array:
        """Return the options that the answers name, (question,)."""
        pairs = zip(answers.texts, self.questions, strict=True)
        return np.array([self.benchmark.read_option(text, question) for text, question in pairs])

    def correct(self, answers: Answers) -> Array:
        """Return which answers are right, (question,) bool."""
        correct: Array = self.options(answers) == self.truth
        return correct

    def rows(self, draws: Sequence[Answers], baseline: Array | None, seed: int) -> Iterator[Row]:
        """Yield the condition's rows; with several draws the first ones are means over them,
        without McNemar's test."""
        labels: Row = {"condition": draws[0].condition}
        if len(draws) == 1:
            yield from self._rows(labels, draws, baseline, seed)
            return
        yield from self._rows(labels | {"draw": "all"}, draws, None, seed)
        for answers in draws:
            yield next(self._rows(labels | {"draw": answers.draw}, [answers], baseline, seed))

    def _rows(
        self, labels: Row, draws: Sequence[Answers], baseline: Array | None, seed: int
    ) -> Iterator[Row]:
        labels = labels | {"n_heads": draws[0].n_heads}
        parts = {
            name: [self._units(answers, rows) for answers in draws]
            for name, rows in self.groups.items()
        }
        # All groups together: each group in its columns, and the draws beside one another.
        units_and_groups = [side_by_side(groups) for groups in zip(*parts.values(), strict=True)]
        together = np.concatenate([units for units, _ in units_and_groups], axis=1)
        strata = units_and_groups[0][1]
        scores = mean_over_draws(self.benchmark.all_scores(list(parts)), len(draws))
        all_rows = np.arange(len(self.truth))
        counts = self._counts(draws, all_rows, baseline)
        yield {
            **labels,
            **scored(together, scores, strata=strata, seed=seed),
            "n": len(together),
            **counts,
        }
        # Then each group alone.
        scores = mean_over_draws(self.benchmark.group_scores, len(draws))
        for name, rows in self.groups.items():
            units = np.concatenate(parts[name], axis=1)
            counts = self._counts(draws, rows, baseline)
            yield {
                **labels,
                self.benchmark.label: name,
                **scored(units, scores, seed=seed),
                "n": len(units),
                **counts,
            }

    def _units(self, answers: Answers, rows: Array) -> Array:
        return self.benchmark.units(
            self.options(answers)[rows] == "yes", self.correct(answers)[rows]
        )

    def _counts(self, draws: Sequence[Answers], rows: Array, baseline: Array | None) -> Row:
        """Count questions and answers that are neither yes nor no, and test against the
        baseline."""
        n_unreadable = [int((self.options(answers)[rows] == "other").sum()) for answers in draws]
        row: Row = {
            "n_questions": len(rows),
            "n_other": sum(n_unreadable) / len(n_unreadable)
            if len(n_unreadable) > 1
            else n_unreadable[0],
        }
        # The test is of one draw: several have no common answer to a question.
        if baseline is not None:
            test = mcnemar(baseline[rows], self.correct(draws[0])[rows])
            row |= {
                "n_lost": test.lost,
                "n_gained": test.gained,
                "mcnemar_p": test.p,
                "mcnemar_mid_p": test.mid_p,
            }
        return row


def mean_over_draws(scores: Scores, n_draws: int) -> Scores:
    """Return scores of sums of several draws side by side, (..., draw * k), averaged over the
    draws."""

    def averaged(sums: Array) -> dict[str, Array]:
        """Average the scores over the draws."""
        by_draw = scores(sums.reshape(*sums.shape[:-1], n_draws, -1))
        return {name: values.mean(axis=-1) for name, values in by_draw.items()}

    return averaged
