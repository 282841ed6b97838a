"""Which tokens of a question's text look at the image: the last, the question's, the answer's, or
those of a word in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvtool.errors import UsageError

if TYPE_CHECKING:
    from kvtool.models.base import LanguageModel

LAST, QUESTION, ANSWER = "last", "question", "answer"
MARK = "KVTOOL-QUESTION"
Span = tuple[int, int]
"""The first character of a stretch of text, and the one behind its last."""


@dataclass(frozen=True)
class QuerySource:
    """The tokens whose attention is taken, as the user names them.

    Args:
        name: "last" (of the whole prompt, which the first token of the answer is predicted from),
            "question" (those of the user's words), "answer" (those of what the model answers), or
            any other word, which is looked for in the question.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise UsageError("--from: expected last, question, answer or a word, found nothing")

    @property
    def is_answer(self) -> bool:
        """Whether an answer has to be generated first."""
        return self.name == ANSWER

    def spans(self, question: str, answer: str) -> list[Span] | None:
        """Return the stretches of a question, or of an answer, that are meant; None for the last
        token of all."""
        if self.name == LAST:
            return None
        if self.name == QUESTION:
            return [(0, len(question))]
        if self.is_answer:
            return [(0, len(answer))]
        # A word stands by itself: cat is none of catalog's.
        word = re.compile(rf"(?<!\w){re.escape(self.name.strip())}(?!\w)", re.IGNORECASE)
        return [match.span() for match in word.finditer(question)]


@dataclass(frozen=True)
class QueryText:
    """What follows an image, and which of its tokens look.

    Attributes:
        text: The whole text: the user's turn, and an answer where there is one.
        queries: Indices among its tokens; none where no token is meant.
        words: What each of them writes.
        n_tokens: The number of all its tokens.
    """

    text: str
    queries: tuple[int, ...]
    words: tuple[str, ...]
    n_tokens: int


def query_text(
    model: LanguageModel, source: QuerySource, question: str, answer: str = ""
) -> QueryText:
    """Return the text of a question, as the chat template has it, and the tokens that look."""
    # The template surrounds the question: its start is found by a mark in its place.
    turn = model.question(question)
    text = turn + answer
    token_spans = model.token_spans(text)
    stretches = source.spans(question, answer)
    # The last token has read everything, and is the one that begins the answer.
    if stretches is None:
        queries: Sequence[int] = range(len(token_spans))[-1:]
    else:
        start = len(turn) if source.is_answer else len(model.question(MARK).partition(MARK)[0])
        # A token belongs to a stretch that it overlaps, even by a part of it.
        queries = [
            index
            for index, (first, stop) in enumerate(token_spans)
            if any(first < start + end and start + begin < stop for begin, end in stretches)
        ]
    words = tuple(text[slice(*token_spans[index])].strip() for index in queries)
    return QueryText(text, tuple(queries), words, len(token_spans))
