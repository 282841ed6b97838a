"""The four cells: counted by hand, tested as scipy does, random answers at chance."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from kvtool.asking.paired.questions import option_images
from kvtool.asking.paired.readings import NONE, letter
from kvtool.datasets.base import Question
from kvtool.experiments.paired.cells import CELLS, ComparedAnswers
from kvtool.result import Row
from kvtool.tasks.base import table_rows

Array = np.ndarray[Any, Any]
BLOCKS: list[Row] = [{"kind": "value", "layer": 0, "kv_head": head} for head in range(2)]


def questions(answers: str, n_choices: int = 4) -> list[Question]:
    return [
        Question(f"q{i}", (f"i{i}",), "", "", f"({letter})", "", tuple("wxyz"[:n_choices]))
        for i, letter in enumerate(answers)
    ]


class Planted:
    """A reading that says what the test tells it: (head, question, 2)."""

    further: ClassVar[tuple[str, ...]] = ("value_pck",)

    def __init__(self, measured: Array) -> None:
        self.measured = measured

    def read(self, layer: Any) -> Array:
        del layer
        return self.measured


def rows(compared: ComparedAnswers, measured: Array) -> list[Row]:
    (table,) = compared.tables(measured)
    return [compared.counted(row) for row in table_rows(BLOCKS, table, 0)]


#       both  value  model  neither
MODEL = "AAAABBBBBAAB"
VALUE = [0] * 9 + [1, 2, NONE]
"""All answers are A: the model has six right, head 0 nine, the first four together."""


def test_cells_by_hand() -> None:
    pck = [1, 0] * 6
    measured = np.stack([np.stack([VALUE, pck], -1), np.stack([[0] * 12, [0] * 12], -1)])
    answers = [f"({letter})" for letter in MODEL]
    compared = ComparedAnswers(questions("A" * 12), Planted(measured), answers)
    first, second = rows(compared, measured)
    assert [first[f"n_{cell}"] for cell in CELLS] == [4, 5, 2, 1]
    expected = {
        "value": 9,
        "model": 6,
        "union": 11,
        "both": 4,
        "value_only": 5,
        "model_only": 2,
        "neither": 1,
    }
    assert {name: first[name] for name in expected} == pytest.approx(
        {k: v / 12 for k, v in expected.items()}
    )
    assert first["value_pck"] == 0.5
    assert first["chance"] == 0.25
    assert first["n"] == 12
    assert first["value_low"] < 0.75 < first["value_high"]
    assert first["mcnemar_p"] == pytest.approx(binomtest(2, 7).pvalue)
    assert first["mcnemar_mid_p"] == pytest.approx(binomtest(2, 7).pvalue - 21 / 2**7)
    assert [second[f"n_{cell}"] for cell in CELLS] == [6, 6, 0, 0]
    assert second["mcnemar_p"] == pytest.approx(binomtest(0, 6).pvalue)


def test_cells_by_the_other_metric() -> None:
    pck = [1] * 2 + [0] * 10
    measured = np.stack([np.stack([VALUE, pck], -1)] * 2)
    compared = ComparedAnswers(
        questions("A" * 12), Planted(measured), [f"({letter})" for letter in MODEL], "value_pck"
    )
    row = rows(compared, measured)[0]
    assert (row["value_pck"], row["value"]) == (2 / 12, 9 / 12)
    assert [row[f"n_{cell}"] for cell in CELLS] == [2, 0, 4, 6]


def test_an_item_a_question() -> None:
    measured = np.stack([VALUE, [0] * 12], -1)
    letters = [f"({letter})" for letter in MODEL[:-1]] + [""]
    answers = [f"it is {choice}" for choice in letters]
    compared = ComparedAnswers(questions("A" * 12), Planted(measured[None]), letters)
    items = list(compared.items(measured, answers, np.arange(12)))
    assert Counter(item["cell"] for item in items) == {
        "both": 4,
        "value_only": 5,
        "model_only": 2,
        "neither": 1,
    }
    assert items[4] == {
        "id": "q4", "images": ["i4"], "label": "(A)",
        "answer": "it is (B)", "said": "(B)", "model": False,
        "value": "(A)", "value_right": True, "cell": "value_only",
    }  # fmt: skip
    assert (items[11]["said"], items[11]["value"]) == ("", "")
    halved = list(compared.items(measured, answers, np.array([0, 4])))
    assert [item["cell"] for item in halved if item["cell"]] == ["both", "value_only"]
    assert [letter(index) for index in (NONE, 0, 3)] == ["", "(A)", "(D)"]


@pytest.mark.parametrize("n_choices", [2, 4])
def test_random_answers_land_on_chance(n_choices: int) -> None:
    rng = np.random.default_rng(n_choices)
    n, chance = 400, 1 / n_choices
    truth, answers = ("".join(rng.choice(list("ABCD"[:n_choices]), n)) for _ in range(2))
    measured = np.stack([rng.integers(0, n_choices, (2, n)), np.zeros((2, n), int)], -1)
    compared = ComparedAnswers(
        questions(truth, n_choices), Planted(measured), [f"({letter})" for letter in answers]
    )
    for row in rows(compared, measured):
        assert row["chance"] == chance
        for name in ("value", "model"):
            assert row[f"{name}_low"] < chance < row[f"{name}_high"]
        assert row["both_low"] < chance**2 < row["both_high"]
        assert row["mcnemar_p"] > 0.01


def test_a_layer_is_measured_by_the_reading() -> None:
    measured = torch.zeros(1, 2, 2, dtype=torch.long).numpy()
    compared = ComparedAnswers(questions("AB"), Planted(measured), ["(A)", "(A)"])
    assert compared.measure(None) is measured  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_images", "choices", "expected"),
    [
        (3, ("the second image", "the third image"), (1, 2)),
        (3, ("The third image", "the second image"), (2, 1)),
        (4, ("second", "the fourth one", "third"), (1, 3, 2)),
        (3, ("left", "right"), (1, 2)),
        (3, ("the second image", "the second image"), None),
        (3, ("the first image", "the second image"), None),
        (3, ("the second image", "the other"), None),
        (3, ("the second or third image", "the third image"), None),
        (2, ("yes", "no"), None),
        (2, ("the second image", "the third image"), None),
    ],
)
def test_choices_name_images(
    n_images: int, choices: tuple[str, ...], expected: tuple[int, ...] | None
) -> None:
    images = tuple(f"x/image_{i + 1}" for i in range(n_images))
    assert option_images(Question("x", images, "", "", "(A)", "", choices)) == expected
