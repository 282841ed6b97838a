"""Questions to ask about one image each: POPE's, MME's and those of other data sets, and how their
answers are read and scored."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvtool.asking.mme import mean_scores, tops
from kvtool.asking.pope import pooled_and_macro
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
from kvtool.stats.bootstrap import Array, Scores, ratio

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
    top: Callable[[int], float | Mapping[str, float]] = lambda _: 1.0
    """Of the number of groups: the best score that there is, see kvtool.stats.proportions."""


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
        # Five sums of each subset: four of right answers, as MME scores them, then the answers yes.
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
        top=lambda n_subsets: {**tops(n_subsets), "yes_ratio": 100.0},
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
    # POPE's rule reads an empty answer as yes: of other data sets it is no answer.
    if not answer.strip():
        return "other"
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
    # The synthetic scenes ask as POPE does unless they are told otherwise.
    if parsed.name == "scenes" and parsed.split is None:
        parsed = replace(parsed, split="pope")
    name = str(parsed.split) if parsed.name == "scenes" else parsed.name
    # The error lists every data set with questions: benchmarks of their own scoring come first.
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
