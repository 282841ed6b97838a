"""Where the options of a question differ, and the margin of the right one."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.asking.margins import margins_of, option_text
from kvtool.datasets.base import Question


def spelling_model(pieces: list[str]) -> Any:
    """A tokenizer that takes the longest piece, else a character, and no other part of a model."""

    def token_ids(text: str) -> list[int]:
        ids = []
        while text:
            piece = max((p for p in pieces if text.startswith(p)), key=len, default=text[0])
            ids.append(pieces.index(piece) if piece in pieces else 1000 + ord(piece))
            text = text[len(piece) :]
        return ids

    return SimpleNamespace(token_ids=token_ids, question=lambda text: f"{text}:")


def question(prompt: str, n_choices: int = 0) -> Question:
    return Question("1", ("a",), prompt, prompt, "(A)", "g", tuple("xyz"[:n_choices]))


def test_all_spellings_of_yes_and_no_count() -> None:
    pieces = ["yes", "no", "Yes", "No", " yes", " no"]
    begun = option_text(spelling_model(pieces), question("is it"), ("yes", "no"))
    assert begun is not None
    assert begun.text == "is it:"
    # " Yes" begins with a blank, as " No" does: that tells nothing.
    assert [set(ids) for ids in begun.tokens] == [{0, 2, 4}, {1, 3, 5}]


@pytest.mark.parametrize(
    ("prompt", "pieces", "text", "tokens"),
    [
        # Written in brackets, which are a token of their own: the letters differ.
        ("(A) x (B) y", ["(", "A", "B"], "(A) x (B) y:(", ((1,), (2,))),
        # A bracket and a letter that are one token differ in that.
        ("(A) x (B) y", ["(A", "(B", "("], "(A) x (B) y:", ((0,), (1,))),
        ("A. x B. y", ["A", "B", " A", " B"], "A. x B. y:", ((0, 2), (1, 3))),
    ],
)
def test_letters_in_brackets_or_bare(
    prompt: str, pieces: list[str], text: str, tokens: tuple[tuple[int, ...], ...]
) -> None:
    begun = option_text(spelling_model(pieces), question(prompt, 2), ("(A)", "(B)"))
    assert begun is not None
    assert (begun.text, begun.tokens) == (text, tokens)


def test_options_of_one_token_cannot_be_told_apart() -> None:
    model: Any = SimpleNamespace(token_ids=lambda text: [0] * len(text), question=str)
    assert option_text(model, question("is it"), ("yes", "no")) is None


def test_margins_are_differences_of_log_probabilities() -> None:
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    tokens = ((0, 3), (1,), (5, 6))
    p = logits.double().softmax(dim=1).numpy()
    options = np.stack([p[:, list(ids)].sum(axis=1) for ids in tokens], axis=1)
    expected = np.log(options[:, 1]) - np.log(np.maximum(options[:, 0], options[:, 2]))
    option_logits = logits[:, list(chain(*tokens))]
    np.testing.assert_allclose(margins_of(option_logits, tokens, 1), expected, atol=1e-12)
