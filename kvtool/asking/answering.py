"""Questions answered from the store; see kvtool.asking.image_replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvtool import schema
from kvtool.asking.image_replies import ImageReplies, Records, ReplyTable

if TYPE_CHECKING:
    from kvtool.models.intervention import Intervened

Answer = str | None
"""What the model said; None where it could not: its logits, or the stored cache, are not all
finite."""
AnswerTable = ReplyTable[str]
"""Answers by heads blocked, image and text."""


@dataclass(frozen=True)
class ImageAnswers:
    """The stored record of an image: its answers by what is done and text."""

    answers: Records[str]


@dataclass
class Answerer(ImageReplies[str]):
    """Answers questions about a run's images, from the store where they were asked before."""

    @classmethod
    def read(cls, record: dict[str, Any]) -> Records[str]:
        """See ImageReplies.read."""
        return schema.read(ImageAnswers, record, "answers").answers

    def replies(self, intervened: Intervened, cache: Any, texts: Sequence[str]) -> Sequence[Answer]:
        """Generate answers; see ImageReplies.replies."""
        turns = [intervened.model.question(text) for text in texts]
        return intervened.ask(cache, turns, self.max_new_tokens)
