"""What an adapter learns from: an image, what a user asks of it, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvtool.models.families.linear_adapter import LinearAdapter
from kvtool.models.prompts import Prompt

ANSWER = "KVTOOL-ANSWER"
"""Stands for an answer while a chat template is laid out."""


@dataclass(frozen=True)
class Exchange:
    """A question on an image and its answer.

    Attributes:
        image: The row of the image's tokens.
        question: What the user asks.
        answer: What the assistant says.
    """

    image: int
    question: str
    answer: str


@dataclass(frozen=True)
class TrainingExample:
    """An exchange as token ids, without what stands before the image.

    Attributes:
        image: The row of the image's tokens.
        ids: The token ids that follow the image: question and answer.
        start: Where the answer begins in them. The token that ends the turn is its last.
    """

    image: int
    ids: tuple[int, ...]
    start: int


def examples(model: LinearAdapter, exchanges: Sequence[Exchange]) -> list[TrainingExample]:
    """Lay out exchanges as the model does when it is asked."""
    prompt = model.prompt
    end = turn_end(prompt)
    laid_out = []
    for exchange in exchanges:
        question = prompt.text_ids(model.question(exchange.question))
        answer = prompt.tokenizer(exchange.answer, add_special_tokens=False).input_ids
        ids = (*question, *answer, *end)
        laid_out.append(TrainingExample(exchange.image, ids, len(question)))
    return laid_out


def turn_end(prompt: Prompt) -> tuple[int, ...]:
    """Return the token that ends an assistant's turn: what the chat template writes behind an
    answer, else the tokenizer's end token; empty where there is neither.
    """
    tokenizer = prompt.tokenizer
    # The user's words must not hold what marks the answer.
    turns = [{"role": "user", "content": ANSWER[:-1]}, {"role": "assistant", "content": ANSWER}]
    try:
        text: str = tokenizer.apply_chat_template(
            turns, chat_template=prompt.template, tokenize=False
        )
    except Exception:  # noqa: BLE001  a template may raise what any program raises
        text = ""
    after = tokenizer(text.partition(ANSWER)[2], add_special_tokens=False).input_ids
    if after and after[0] in tokenizer.all_special_ids:
        return (after[0],)
    return () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
