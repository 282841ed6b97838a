"""POPE and MME as questions to ask: their questions, official scores of conditions side by side,
answer files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvtool.asking.mme import mean_scores
from kvtool.asking.pope import pooled_and_macro
from kvtool.asking.records import scored, side_by_side
from kvtool.datasets import open_dataset, parse_spec
from kvtool.datasets.base import DatasetBase, Question
from kvtool.errors import UsageError
from kvtool.metrics.answers import (
    mme_scores,
    mme_units,
    parse_mme,
    parse_pope,
    pope_scores,
    pope_units,
)
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, Scores, ratio
from kvtool.stats.mcnemar import mcnemar

FIRST = ("f1", "macro_f1", "score", "mme*", "accuracy", "acc", "acc_plus", "yes_ratio")
"""Scores that lead a row."""


@dataclass(frozen=True)
class Benchmark:
    """Yes-or-no questions about images. label: what its groups are, as rows say it. metric, unit:
    as in Result."""

    name: str
    label: str
    metric: str
    unit: str
    parse: Callable[[str], str]
    """An answer's text as yes, no (or other)."""
    units: Callable[[Array, Array], Array]
    """Two (question,) bools, said yes and is yes, and right answers too, as (unit, k) to be
    summed."""
    group_scores: Scores
    all_scores: Callable[[Sequence[str]], Scores]
    """Of groups' names: scores of their sums side by side, (..., group * k)."""


def _pope_summary(_files: Sequence[str]) -> Scores:
    return lambda sums: _led(pooled_and_macro(sums))


def _mme_units(said: Array, correct: Array) -> Array:
    """Of an image's two questions: mme_units, and how many were answered yes."""
    yes = said.reshape(-1, 2).sum(axis=1).astype(np.float64)
    return np.column_stack([mme_units(correct.reshape(-1, 2)), yes])


def _mme_scores(sums: Array) -> dict[str, Array]:
    return _led(mme_scores(sums[..., :4]) | {"yes_ratio": 100 * ratio(sums[..., 4], sums[..., 1])})


def _mme_summary(subsets: Sequence[str]) -> Scores:
    """As kvtool score's, and the mean over subsets of yes_ratio."""
    of_scores = mean_scores(subsets)

    def scores(sums: Array) -> dict[str, Array]:
        each = sums.reshape(*sums.shape[:-1], -1, 5)
        own = each[..., :4].reshape(*sums.shape[:-1], -1)
        return _led(of_scores(own) | {"yes_ratio": _mme_scores(each)["yes_ratio"].mean(axis=-1)})

    return scores


def _led(scores: Mapping[str, Array]) -> dict[str, Array]:
    return {name: scores[name] for name in (*(n for n in FIRST if n in scores), *scores)}


BENCHMARKS = {
    "pope": Benchmark(
        name="pope",
        label="file",
        metric="f1",
        unit="fraction",
        parse=parse_pope,
        units=lambda said, correct: pope_units(said, said == correct),
        group_scores=lambda sums: _led(pope_scores(sums)),
        all_scores=_pope_summary,
    ),
    "mme": Benchmark(
        name="mme",
        label="subset",
        metric="score",
        unit="percent",
        parse=parse_mme,
        units=_mme_units,
        group_scores=_mme_scores,
        all_scores=_mme_summary,
    ),
}


def open_benchmark(spec: str) -> tuple[Benchmark, DatasetBase]:
    """A benchmark and its data set: pope:PATH, mme:PATH[@all], scenes (its POPE) or scenes@mme.
    Raises UsageError."""
    parsed = parse_spec(spec)
    if parsed.name == "scenes" and parsed.split is None:
        parsed = replace(parsed, split="pope")
    name = parsed.split if parsed.name == "scenes" else parsed.name
    if name not in BENCHMARKS:
        known = ", ".join([*(f"{name}:PATH" for name in BENCHMARKS), "scenes", "scenes@mme"])
        raise UsageError(f"benchmark: expected one of {known}; found {spec!r}")
    return BENCHMARKS[name], open_dataset(parsed)


@dataclass(frozen=True)
class Answers:
    """What one condition, or one draw of it, answered: a text for each question."""

    condition: str
    draw: int | None
    n_heads: int
    texts: tuple[str, ...]

    @property
    def label(self) -> str:
        """A name for files: none, dependent-0."""
        return self.condition if self.draw is None else f"{self.condition}-{self.draw}"


def score_conditions(
    benchmark: Benchmark, questions: Sequence[Question], every: Sequence[Answers], seed: int
) -> Iterator[Row]:
    """Rows of each condition: all groups together, then each; of several draws their mean, and each
    draw together.

    The first of `every` is what McNemar's test compares the others with. All intervals are over the
    same resamples.
    """
    sheet = AnswerSheet(benchmark, questions)
    baseline = sheet.correct(every[0])
    for name in dict.fromkeys(answers.condition for answers in every):
        draws = [answers for answers in every if answers.condition == name]
        yield from sheet.rows(draws, None if name == every[0].condition else baseline, seed)


class AnswerSheet:
    """The questions of a benchmark group by group, as their answers are scored."""

    def __init__(self, benchmark: Benchmark, questions: Sequence[Question]) -> None:
        self.benchmark = benchmark
        self.truth = np.array([question.answer.lower() for question in questions])
        groups = np.array([question.group for question in questions])
        self.groups = {
            str(name): np.flatnonzero(groups == name) for name in dict.fromkeys(groups.tolist())
        }

    def said(self, answers: Answers) -> Array:
        return np.array([self.benchmark.parse(text) for text in answers.texts])

    def correct(self, answers: Answers) -> Array:
        correct: Array = self.said(answers) == self.truth
        return correct

    def rows(self, draws: Sequence[Answers], baseline: Array | None, seed: int) -> Iterator[Row]:
        """The condition's rows; with several draws the first ones are means over them, without
        McNemar's test."""
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
            name: [self._units(answers, at) for answers in draws]
            for name, at in self.groups.items()
        }
        wide = [
            side_by_side([of_draws[draw] for of_draws in parts.values()])
            for draw in range(len(draws))
        ]
        together = np.concatenate([units for units, _ in wide], axis=1)
        of_group = wide[0][1]
        scores = mean_over_draws(self.benchmark.all_scores(list(parts)), len(draws))
        everything = np.arange(len(self.truth))
        more = self._counts(draws, everything, baseline)
        yield {
            **labels,
            **scored(together, scores, strata=of_group, seed=seed),
            "n": len(together),
            **more,
        }
        scores = mean_over_draws(self.benchmark.group_scores, len(draws))
        for name, at in self.groups.items():
            units = np.concatenate(parts[name], axis=1)
            more = self._counts(draws, at, baseline)
            yield {
                **labels,
                self.benchmark.label: name,
                **scored(units, scores, seed=seed),
                "n": len(units),
                **more,
            }

    def _units(self, answers: Answers, at: Array) -> Array:
        return self.benchmark.units(self.said(answers)[at] == "yes", self.correct(answers)[at])

    def _counts(self, draws: Sequence[Answers], at: Array, baseline: Array | None) -> Row:
        """Questions, answers that are neither yes nor no, and McNemar's test against the
        baseline."""
        others = [int((self.said(answers)[at] == "other").sum()) for answers in draws]
        row: Row = {
            "n_questions": len(at),
            "n_other": sum(others) / len(others) if len(others) > 1 else others[0],
        }
        if baseline is not None:
            test = mcnemar(baseline[at], self.correct(draws[0])[at])
            row |= {
                "n_lost": test.lost,
                "n_gained": test.gained,
                "mcnemar_p": test.p,
                "mcnemar_mid_p": test.mid_p,
            }
        return row


def mean_over_draws(scores: Scores, n_draws: int) -> Scores:
    """Scores of sums of several draws side by side, (..., draw * k), averaged over the draws."""

    def averaged(sums: Array) -> dict[str, Array]:
        by_draw = scores(sums.reshape(*sums.shape[:-1], n_draws, -1))
        return {name: values.mean(axis=-1) for name, values in by_draw.items()}

    return averaged
