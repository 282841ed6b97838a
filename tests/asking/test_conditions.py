"""Questions that share pictures: what is resampled, what is tested once, what is corrected."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from kvtool.asking import records
from kvtool.asking.benchmarks import BENCHMARKS, own_benchmark
from kvtool.asking.condition_answers import Answers
from kvtool.asking.conditions import score_conditions
from kvtool.datasets.base import Question
from kvtool.result import Row
from kvtool.stats import permutation
from kvtool.stats.bootstrap import Array, bootstrap
from tests.support.questions import pope_answers, pope_questions

POPE = BENCHMARKS["pope"]


def score(questions: list[Question], *conditions: list[str], **options: Any) -> list[Row]:
    answers = [
        Answers(f"c{number}", None, number, tuple(texts)) for number, texts in enumerate(conditions)
    ]
    return score_conditions(POPE, questions, answers, 0, **options)


def summary(rows: list[Row], condition: str) -> Row:
    return next(row for row in rows if row["condition"] == condition and "file" not in row)


def test_a_question_in_three_files_is_tested_once() -> None:
    questions = pope_questions(6)
    truth = [question.answer for question in questions]
    # One picture's three yes-questions are lost: nine lines of the three files.
    lost = [
        "no" if question.image_ids == ("2",) and question.answer == "yes" else answer
        for question, answer in zip(questions, truth, strict=True)
    ]
    row = summary(score(questions, truth, lost), "c1")
    assert (row["n"], row["n_distinct"], row["n_pictures"]) == (108, 72, 6)
    assert (row["n_lost"], row["n_gained"]) == (3, 0)
    assert row["mcnemar_p"] == 0.25
    assert row["accuracy"] == pytest.approx(1 - 9 / 108)
    parts = [row for row in score(questions, truth, lost) if "file" in row and "n_lost" in row]
    assert [row["n_lost"] for row in parts] == [3, 3, 3]


def test_intervals_resample_pictures() -> None:
    """All of a picture right or all wrong: as many independent things as there are pictures."""
    rng = np.random.default_rng(0)
    questions = pope_questions(40)
    right = {str(number): rng.random() < 0.5 for number in range(40)}
    answers = [
        question.answer if right[question.image_ids[0]] else {"yes": "no", "no": "yes"}[answer]
        for question, answer in zip(questions, [q.answer for q in questions], strict=True)
    ]
    row = summary(score(questions, answers), "c0")
    width = row["accuracy_high"] - row["accuracy_low"]
    expected = 2 * 1.96 * np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 40)
    assert width == pytest.approx(expected, rel=0.1)


def test_pictures_are_told_apart_by_what_they_are() -> None:
    questions = [
        Question(f"q{i}", (f"row{i}",), "how many", "how many", "(A)", "Count", ("one", "two"))
        for i in range(8)
    ]
    answers = [Answers("none", None, 0, ("(A)", "(B)") * 4)]
    digests = {f"row{i}": f"picture{i // 4}" for i in range(8)}
    benchmark = own_benchmark("cvbench")
    (row, _) = score_conditions(benchmark, questions, answers, 0, digests)
    assert (row["n"], row["n_pictures"], row["n_distinct"]) == (8, 2, 2)
    (row, _) = score_conditions(benchmark, questions, answers, 0)
    assert (row["n"], row["n_pictures"], row["n_distinct"]) == (8, 8, 8)


def test_conditions_are_corrected_together_and_parts_apart() -> None:
    questions = pope_questions(6)
    truth = [question.answer for question in questions]
    always_no = ["no"] * len(truth)
    worse = [answer if number % 5 else "no" for number, answer in enumerate(truth)]
    rows = score(questions, truth, always_no, worse)
    raw = [summary(rows, condition)["mcnemar_p"] for condition in ("c1", "c2")]
    corrected = [summary(rows, condition)["mcnemar_holm_p"] for condition in ("c1", "c2")]
    assert corrected == pytest.approx([2 * min(raw), max(2 * min(raw), max(raw))])
    assert all(row["picture_holm_p"] >= row["picture_p"] for row in rows if "picture_p" in row)
    assert "mcnemar_p" not in summary(rows, "c0")


def test_empty_answers_are_counted() -> None:
    questions = pope_questions(2)
    answers = ["", "  ", *[question.answer for question in questions][2:]]
    row = summary(score(questions, answers), "c0")
    assert row["n_empty"] == 2
    benchmark = own_benchmark("own")
    yes = Question("q", ("i",), "is it", "is it", "yes", "")
    assert benchmark.read_option("", yes) == "other"
    assert benchmark.read_option("Yes.", yes) == "yes"


def sure_of_nothing(kind: str, runs: int) -> Array:
    """Return the shares of null runs with p < .05, by each test."""
    questions = pope_questions(60)
    sure = np.zeros(2)
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        before, after = pope_answers(questions, rng, kind)
        row = summary(score(questions, before, after), "c1")
        sure += np.array([row["mcnemar_mid_p"], row["picture_p"]]) < 0.05
    return sure / runs


@pytest.mark.slow
def test_without_a_difference_five_percent_are_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "DRAWS", 299)
    # The tests need no interval, of which each call would draw a dozen.
    monkeypatch.setattr(records, "bootstrap", partial(bootstrap, draws=2))
    by_question = sure_of_nothing("questions", 100)
    assert (by_question > 0.005).all()
    assert (by_question < 0.11).all()
    # Answers that change by picture: McNemar's test takes questions for independent.
    assert sure_of_nothing("pictures", 100)[1] < 0.11


@pytest.mark.slow
def test_conditions_that_do_the_same_are_one_test() -> None:
    """And one that does what the first does is shown, but not tested."""
    questions = pope_questions(6)
    truth = tuple(question.answer for question in questions)
    always_no = ("no",) * len(truth)
    worse = tuple(answer if number % 5 else "no" for number, answer in enumerate(truth))
    conditions = [
        Answers("none", None, 0, truth, frozenset()),
        Answers("chosen", None, 1, always_no, frozenset({(4, 0)})),
        Answers("late", None, 1, worse, frozenset({(5, 0)})),
    ]
    duplicates = [
        Answers("middle", None, 1, always_no, frozenset({(4, 0)})),
        Answers("nothing", None, 1, truth, frozenset()),
    ]
    short_rows = score_conditions(POPE, questions, conditions, 0)
    long_rows = score_conditions(POPE, questions, [*conditions, *duplicates], 0)
    assert long_rows[: len(short_rows)] == short_rows
    first, middle = (summary(long_rows, name) for name in ("chosen", "middle"))
    assert middle | {"condition": "chosen"} == first
    assert not any(name.endswith("_p") for name in summary(long_rows, "nothing"))
    # A draw that does what another one does counts once, too.
    draws = [Answers("random", draw, 1, worse, frozenset({(5, 0)})) for draw in range(3)]
    rows = score_conditions(POPE, questions, [conditions[0], *draws], 0)
    draw_rows = [row for row in rows if row.get("draw") in (0, 1, 2)]
    assert [row["mcnemar_holm_p"] for row in draw_rows] == [row["mcnemar_p"] for row in draw_rows]
