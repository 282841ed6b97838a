"""What never looks at the picture has right, beside the answers of every condition."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.asking.benchmarks import BENCHMARKS, own_benchmark
from kvtool.asking.choices import ChoiceQuestion, score_choices
from kvtool.asking.condition_answers import Answers
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.guessing import DRAWS, guesses, options_of
from kvtool.datasets.base import Question
from kvtool.result import Row
from tests.support.questions import pope_questions


def sheet_of(name: str, questions: list[Question]) -> AnswerSheet:
    benchmark = BENCHMARKS.get(name) or own_benchmark(name)
    return AnswerSheet(benchmark, questions, {}, 0)


def answers(texts: list[str], condition: str = "none") -> Answers:
    return Answers(condition, None, 0, tuple(texts))


def mme_questions(n_pictures: int) -> list[Question]:
    return [
        Question(f"{i}{answer}", (str(i),), "Is it?", f"Is it {answer}?", answer, "count")
        for i in range(n_pictures)
        for answer in ("Yes", "No")
    ]


def level(rows: list[Row], predictor: str) -> Row:
    return next(row for row in rows if row["predictor"] == predictor)


def test_of_pope_always_yes_is_the_best_of_what_knows_nothing() -> None:
    questions = pope_questions(30)
    sheet = sheet_of("pope", questions)
    truth = [question.answer for question in questions]
    (row, *files) = sheet.score([answers(truth)])
    assert row["chance_kind"] == "always yes"
    assert row["chance"] == pytest.approx(2 / 3)
    assert [file["chance"] for file in files] == [pytest.approx(2 / 3)] * 3
    assert row["chance_difference"] == pytest.approx(1 / 3)
    assert row["exceeds_chance"] is True
    assert level(sheet.chance_rows, "always no")["f1"] == 0.0
    guessed = level(sheet.chance_rows, "guessing")
    assert guessed["draws"] == DRAWS
    assert guessed["accuracy"] == pytest.approx(0.5, abs=0.03)
    # A model that says yes to everything is chance itself.
    (all_yes, *_) = sheet.score([answers(["yes"] * len(questions), "deaf")])
    assert (all_yes["chance_difference"], all_yes["exceeds_chance"]) == (0.0, False)


def test_of_mme_guessing_is_better_than_one_answer_to_all() -> None:
    """One answer has half of the questions and no picture right; guessing a quarter of these."""
    questions = mme_questions(200)
    sheet = sheet_of("mme", questions)
    (row, _) = sheet.score([answers([question.answer for question in questions])])
    assert level(sheet.chance_rows, "always yes")["score"] == 50.0
    assert row["chance_kind"] == "guessing"
    assert row["chance"] == pytest.approx(75, abs=5)
    assert row["chance_low"] < row["chance"] < row["chance_high"]


def test_choices_are_guessed_among_their_own() -> None:
    two = Question("a", ("i",), "?", "?", "(B)", "g", ("x", "y"))
    four = Question("b", ("j",), "?", "?", "(D)", "g", ("x", "y", "z", "w"))
    free = Question("c", ("k",), "?", "?", "red", "g")
    assert options_of(two, "(B)") == ("(A)", "(B)")
    assert options_of(free, "red") == ()
    truth = np.array(["(B)", "(D)", "red"])
    predictors = guesses([two, four, free], truth, 0)
    assert list(predictors) == ["guessing", *(f"always ({letter})" for letter in "ABCD")]
    assert predictors["always (C)"][0].tolist() == ["other", "(C)", "other"]
    guessed = np.array(predictors["guessing"])
    assert guessed.shape == (DRAWS, 3)
    assert set(guessed[:, 0]) <= {"(A)", "(B)"}
    assert set(guessed[:, 2]) == {"other"}
    assert guesses([free], truth[2:], 0) == {}


def test_free_answers_have_no_chance() -> None:
    questions = [Question(f"q{i}", (f"p{i}",), "?", "?", "red", "g") for i in range(4)]
    sheet = sheet_of("own", questions)
    (row, _) = sheet.score([answers(["red"] * 4)])
    assert "chance" not in row
    assert sheet.chance_rows == []


def test_the_accuracy_of_choices_stands_beside_the_best_guess() -> None:
    questions = [
        ChoiceQuestion(
            "blink",
            Question(
                f"q{i}", (f"p{i}",), "?", "?", "(A)" if i % 4 else "(B)", "Counting", ("x", "y")
            ),
        )
        for i in range(40)
    ]
    row, (part,) = score_choices(questions, ["(A)"] * 40, 0)
    for scores in (row, part):
        assert (scores["chance_kind"], scores["chance"]) == ("always (A)", 0.75)
        assert scores["chance_low"] < 0.75 < scores["chance_high"]
