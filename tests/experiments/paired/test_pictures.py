"""Questions that share pictures: what is resampled, and how sure their intervals are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from kvtool.asking.paired.folds import stratified_folds
from kvtool.asking.paired.pictures import picture_clusters, same_pictures
from kvtool.datasets.base import Question
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.experiments.paired.guesses import RecordedAnswers
from kvtool.tasks.base import table_rows

BLOCK = {"kind": "value", "layer": 0, "kv_head": 0}


class Read:
    """A reading that gives what it was told, (head, question, 1)."""

    further: ClassVar[tuple[str, ...]] = ()

    def __init__(self, measured: Any) -> None:
        self.measured = measured

    def read(self, layer: Any) -> Any:
        """Return the planted choices."""
        del layer
        return self.measured


def compared(
    choices: list[int], pictures: Sequence[tuple[str, ...]], **more: Any
) -> ComparedAnswers:
    """Questions whose answer is A, of which a block answers `choices` and the model all right."""
    questions = [
        Question(str(number), names, "", "", "(A)", "", ("x", "y"))
        for number, names in enumerate(pictures)
    ]
    measured = np.array(choices)[None, :, None]
    return ComparedAnswers(questions, Read(measured), ["(A)"] * len(questions), **more)


def test_what_questions_share() -> None:
    assert picture_clusters([("a",), ("b",), ("c",)]) is None
    assert picture_clusters([("a", "b"), ("c", "d")]) is None
    single = picture_clusters([("b",), ("a",), ("b",)])
    assert single is not None
    assert single.tolist() == [0, 1, 0]
    pairs = picture_clusters([("a", "b"), ("c", "a")])
    assert pairs is not None
    assert pairs.tolist() == [[0, 1], [2, 0]]
    # Of three pictures: what hangs together by way of others is one thing.
    three: list[tuple[str, ...]] = [
        ("a", "b", "c"),
        ("d", "e", "f"),
        ("c", "g", "h"),
        ("h", "i", "j"),
        ("k",),
    ]
    joined = picture_clusters(three)
    assert joined is not None
    assert joined[[0, 0]].tolist() == joined[[2, 3]].tolist()
    assert len(set(joined.tolist())) == 3
    assert same_pictures([("a", "b"), ("b", "a"), ("a",)]).tolist() == [0, 0, 1]


def test_pictures_are_known_by_what_they_are() -> None:
    pictures = [("a",), ("b",), ("c",)]
    assert compared([0, 0, 1], pictures).clusters is None
    renamed = compared([0, 0, 1], pictures, digests={"a": "1", "b": "1", "c": "2"})
    assert renamed.clusters is not None
    assert renamed.clusters.tolist() == [0, 0, 1]


@pytest.mark.slow
def test_intervals_hold_the_truth_where_questions_share_pictures() -> None:
    """Forty pictures of five questions; a block is right about a picture or not at all."""
    pictures = [(str(number // 5),) for number in range(200)]
    hits = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        choices = np.repeat(rng.integers(2, size=40), 5).tolist()
        for index, names in enumerate((pictures, [(str(number),) for number in range(200)])):
            answers = compared(choices, names)
            (table,) = answers.tables(answers.measure(None))  # type: ignore[arg-type]
            (row,) = table_rows([BLOCK], table, seed)
            assert row.get("n_resampled") == (40 if index == 0 else None)
            assert row["n"] == 200
            hits[index] += row["value_low"] <= 0.5 <= row["value_high"]
    by_picture, by_question = hits / 200
    assert 0.9 <= by_picture <= 0.98
    assert by_question < 0.7


@pytest.mark.parametrize("select", ["max", "split"])
def test_tests_of_the_best_block_move_pictures(select: str) -> None:
    """Six pictures of ten questions of one answer each: six right pictures are no sixty answers."""
    pictures = [(str(number // 10),) for number in range(60)]
    answers = compared([0] * 60, pictures)
    labels = np.repeat([0, 1, 0, 1, 0, 1], 10)
    questions = [
        Question(q.id, q.image_ids, "", "", "(AB"[0] + "AB"[label] + ")", "", ("x", "y"))
        for q, label in zip(answers.questions, labels, strict=True)
    ]
    measured = labels[None, :, None]
    planted = ComparedAnswers(questions, Read(measured), ["(A)"] * 60)
    recorded = RecordedAnswers(planted, {("value", 0, 0): measured[0]})
    tests = recorded.tests({**BLOCK, "select": select}, np.arange(60), 0)
    # Of twenty ways to lay three As among six pictures one is this, and three flips of eight.
    assert tests["value_p"] == pytest.approx(1 / 20, abs=0.02)
    assert tests["better_p"] == pytest.approx(1 / 8, abs=0.03)


def test_an_image_is_in_one_fold() -> None:
    labels = [0, 1, 0, 1, 0, 1, 0, 1, 1, 0]
    images = ["a", "a", "b", "b", "c", "d", "e", "f", "f", "g"]
    folds = stratified_folds(labels, 3, 0, images)
    assert len({*zip(images, folds, strict=True)}) == len(set(images))
    assert len(set(folds)) == 3
    single = [str(number) for number in range(10)]
    assert stratified_folds(labels, 3, 4, single) == stratified_folds(labels, 3, 4)
