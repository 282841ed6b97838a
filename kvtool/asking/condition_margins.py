"""How sure answers are under each condition: the margin of the right option over the others, from
the store where it was computed before; see kvtool.asking.margins for what a margin is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kvtool import schema
from kvtool.asking.answering import Answerer
from kvtool.asking.guessing import options_of
from kvtool.asking.head_work import HeadWork
from kvtool.asking.image_replies import ImageReplies, Records
from kvtool.asking.margins import DIGITS, margins_of, option_text
from kvtool.datasets.base import Question
from kvtool.progress import Progress
from kvtool.stats.bootstrap import Array
from kvtool.store import hash_json
from kvtool.store.provenance import ALGORITHMS

if TYPE_CHECKING:
    from kvtool.models.intervention import Intervened


@dataclass(frozen=True)
class ImageMarginRecords:
    """The stored record of an image: its margins by what is done and question."""

    answers: Records[float]


@dataclass
class ConditionMargins(ImageReplies[float]):
    """Computes the margins of questions with options.

    Attributes:
        subjects: By a text that stands for them, questions and the right option of each.
    """

    subjects: dict[str, tuple[Question, str]] = field(default_factory=dict)
    kind: ClassVar[str] = "margins"

    @classmethod
    def beside_answers(cls, answerer: Answerer) -> ConditionMargins:
        """Return what computes margins with the model of an answerer, whose work it shares."""
        return cls(
            answerer.store,
            answerer.run,
            answerer.model,
            answerer.device,
            max_new_tokens=1,
            fresh=answerer.fresh,
            beside=answerer,
            share=answerer.share,
            dtype=answerer.dtype,
        )

    @cached_property
    def key(self) -> str:
        """The key of all that a margin depends on but image, question and what is done."""
        return hash_json(["margins", ALGORITHMS["intervention"], super().key])

    @classmethod
    def read(cls, record: dict[str, Any]) -> Records[float]:
        """See ImageReplies.read."""
        return schema.read(ImageMarginRecords, record, "margins").answers

    def margins(self, work: HeadWork, progress: Progress) -> Array:
        """Return the margins of all questions under each condition, (condition, question); NaN
        where a question has no options, or they cannot be told apart, or logits are not finite.
        """
        margins = np.full((len(work.conditions), len(work.questions)), np.nan)
        texts: dict[int, str] = {}
        for index, question in enumerate(work.questions):
            right = work.benchmark.truth(question)
            # An open question has no options, hence no margin: it stays NaN.
            if right in options_of(question, right):
                # Texts that are equal in prompt, choices and right option share one reply.
                text = json.dumps([question.prompt, question.choices, right])
                self.subjects[text] = question, right
                texts[index] = text
        if texts:
            # Only questions with options are asked; their margins go back to their places.
            answerable = replace(work, questions=tuple(work.questions[index] for index in texts))
            replies = answerable.replies(self, list(texts.values()), progress)
            margins[:, list(texts)] = np.array(replies, dtype=np.float64)
        return margins

    def replies(
        self, intervened: Intervened, cache: Any, texts: Sequence[str]
    ) -> Sequence[float | None]:
        """Compute margins; see ImageReplies.replies."""
        openings = {}
        for text in texts:
            question, right = self.subjects[text]
            options = options_of(question, right)
            opening = option_text(intervened.model, question, options)
            if opening is not None:
                openings[text] = opening, options.index(right)
        if not openings:
            return [None] * len(texts)
        # One pass gives the logits after every opening: nothing is generated.
        logits = intervened.logits(cache, [opening.text for opening, _ in openings.values()])
        margins: dict[str, float | None] = dict.fromkeys(texts)
        for row, (text, (opening, position)) in enumerate(openings.items()):
            # Only the tokens that begin an option compete.
            token_ids = list(chain.from_iterable(opening.tokens))
            (margin,) = margins_of(logits[row : row + 1, token_ids], opening.tokens, position)
            # JSON knows no NaN: what is not finite is stored as null.
            margins[text] = float(f"{margin:.{DIGITS}g}") if np.isfinite(margin) else None
        return [margins[text] for text in texts]
