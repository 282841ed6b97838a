"""Wordings of the common evaluators, and that they are part of what an answer is stored under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.asking.wording import Wording
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from tests.support.planted import planted_model, planted_pope

POPE = Question("1", ("i",), "Is there a cat?", "Is there a cat?", "yes", "random")
RED = "Is it red? Please answer yes or no."
MME = Question("2", ("i",), RED, RED, "Yes", "color")
BLINK = Question(
    "3", ("i",), "Which?", "Which? Select.\n(A) one\n(B) two", "(A)", "Counting", ("one", "two")
)


@pytest.mark.parametrize(
    ("style", "question", "text"),
    [
        ("plain", BLINK, BLINK.prompt),
        (
            "lmms-eval",
            POPE,
            "Is there a cat?\nAnswer the question using a single word or phrase.",
        ),
        ("lmms-eval", MME, "Is it red?\nAnswer the question using a single word or phrase."),
        (
            "lmms-eval",
            BLINK,
            "Note: You only need to respond with A, B without providing any additional "
            "information.\n" + BLINK.prompt,
        ),
        ("vlmevalkit", MME, MME.prompt),
        (
            "vlmevalkit",
            BLINK,
            "Which?\nA. one\nB. two\nAnswer with the option's letter from the given choices "
            "directly.",
        ),
    ],
)
def test_the_evaluators_words(style: str, question: Question, text: str) -> None:
    assert Wording(style).prompt(question) == text
    assert Wording(style, "In one word.").prompt(question) == f"{text}\nIn one word."


def test_another_style_is_refused() -> None:
    with pytest.raises(UsageError, match="style: expected plain or lmms-eval or vlmevalkit"):
        Wording("mine")


@pytest.mark.slow
def test_words_and_precision_are_part_of_the_identity(tmp_path: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=2)
    model = planted_model(tmp_path)
    store = tmp_path / "s.kv"
    kvtool.extract(
        store, model=str(model), dataset=f"pope:{pope}", kinds=("key", "value"), dtype="bfloat16"
    )

    def ask(**options: Any) -> tuple[int, dict[str, Any]]:
        result = kvtool.knockout(store, f"pope:{pope}", "4:1", max_new_tokens=1, **options)
        return len(list(store.rglob("results/*"))), result.config

    counts = [ask()[0]]
    for options in (
        {"style": "lmms-eval"},
        {"after_question": "Short."},
        {"question_dtype": "float32"},
        {"question_dtype": "bfloat16"},
    ):
        count, config = ask(**options)
        assert config | options == config
        counts.append(count)
    # The run's own precision, named, is a result of its own but asks nothing again.
    assert counts[0] < counts[1] <= counts[2] < counts[3] <= counts[4]
