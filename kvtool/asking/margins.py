"""How sure an answer is: the margin of the right option over the others, with each head alone
blocked, from the store where it was computed before.

The margin is the log-probability of the right option less that of the best wrong one, at the first
token in which the options differ. An option may begin with several tokens, as "Yes" and "yes"; it
has the probability of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool import schema
from kvtool.asking.answering import Answerer
from kvtool.asking.caches import cache_kinds, spoiled_arrays
from kvtool.asking.guessing import options_of
from kvtool.datasets.base import Question
from kvtool.models.methods import Head
from kvtool.progress import Progress
from kvtool.stats.bootstrap import Array
from kvtool.store import hash_json
from kvtool.store.nonfinite import WHAT
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.shares import chunk_name

if TYPE_CHECKING:
    import torch

    from kvtool.models.base import LanguageModel

DIGITS = 7
"""Those of a stored margin: what float32 has."""


@dataclass(frozen=True)
class OptionText:
    """A question's text up to where its options differ, and the tokens with which each goes on.

    Attributes:
        text: The user's turn as the chat template has it, and the bracket before an option's
            letter where options have one.
        tokens: Of each option the ids of its first tokens.
    """

    text: str
    tokens: tuple[tuple[int, ...], ...]


def option_text(
    model: LanguageModel, question: Question, options: Sequence[str]
) -> OptionText | None:
    """Return how a question's options begin, "yes" and "no" or "(A)", "(B)" and so on; None where
    their first tokens do not tell them apart.
    """
    letters = [option.strip("()") for option in options]
    openings = {"": letters}
    if question.choices and all(option in question.prompt for option in options):
        # Options that the question writes in brackets are answered in brackets. Where bracket and
        # letter are one token, the options differ in that.
        openings = {"(": letters, "": list(options)}
    for opening, names in openings.items():
        text = model.question(question.prompt) + opening
        # A decoder writes its first word with a blank before it or without, as its tokens are.
        spellings = [
            [name, name.capitalize(), f" {name}", f" {name.capitalize()}"] for name in names
        ]
        # The first token decides: what is written after it is not compared.
        tokens = [_first_tokens(model, text, option_spellings) for option_spellings in spellings]
        # A spelling counts where it is known of all options, and differs between all of them.
        clear = [
            first
            for first in zip(*tokens, strict=True)
            if None not in first and len(set(first)) == len(options)
        ]
        distinct = tuple(tuple(dict.fromkeys(column)) for column in zip(*clear, strict=True))
        # No token may begin two options, in whatever spelling: its logit would speak for both.
        n_tokens = len({token for first in distinct for token in first})
        if distinct and n_tokens == sum(map(len, distinct)):
            return OptionText(text, distinct)
    return None


def _first_tokens(model: LanguageModel, text: str, spellings: Sequence[str]) -> list[int | None]:
    """Return the id of each spelling's first token after a text; None where the text's own tokens
    are others with it.
    """
    # A spelling may merge with the text's last token: then its first token is none of its own.
    before = model.token_ids(text)
    n = len(before)
    followed = [model.token_ids(text + spelling) for spelling in spellings]
    return [ids[n] if ids[:n] == before and len(ids) > n else None for ids in followed]


def margins_of(logits: torch.Tensor, tokens: Sequence[Sequence[int]], right: int) -> Array:
    """Return the margins (row,) of logits (row, token) of the options' tokens, one option's after
    the other's; `right` is the right option's place among them.
    """
    import torch

    options = torch.split(logits.double(), [*map(len, tokens)], dim=1)
    # The softmax divides all options by the same number, which a difference does not have.
    scores = torch.stack([option.logsumexp(dim=1) for option in options], dim=1)
    wrong = [option for option in range(len(tokens)) if option != right]
    margins: Array = (scores[:, right] - scores[:, wrong].amax(dim=1)).numpy()
    return margins


@dataclass(frozen=True)
class ImageMargins:
    """The stored record of an image: its questions' margins (1 + head,) in their order; none where
    the logits are not finite, or the options cannot be told apart.
    """

    margins: list[list[float] | None]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ImageMargins:
        """Read a stored record. Raises CorruptError."""
        return schema.read(cls, record, "margins")


@dataclass
class SingleHeads:
    """Asks questions with each head alone blocked.

    Attributes:
        answerer: Which run is asked, and where.
        heads: (layer, kv_head) in the order of their layers.
        margins: What was asked, (1 + head,) by the question's place; first without a knockout.
        skipped: A line for each question without margins.
    """

    answerer: Answerer
    heads: tuple[Head, ...]
    margins: dict[int, Array] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def ask(self, questions: Sequence[Question], truth: Sequence[str], progress: Progress) -> None:
        """Compute the margins of questions; each image's are stored before the next image's turn.

        Raises BusyError where other processes still hold some images; see Share.each.

        Args:
            questions: About one image each.
            truth: The right option of each, as its benchmark reads it.
            progress: Called as knockout's.
        """
        # Only questions with options have margins; the others are named as left out.
        by_image: dict[str, list[int]] = {}
        for index, (question, right) in enumerate(zip(questions, truth, strict=True)):
            if right in options_of(question, right):
                by_image.setdefault(question.image_ids[0], []).append(index)
            else:
                self.skipped.append(
                    f"question {question.id}: expected one with options, which have margins, found "
                    f"the answer {right!r}"
                )
        progress(0, "", len(by_image))

        def ask(image: str) -> None:
            """Ask about one image."""
            indices = by_image[image]
            pairs = [(questions[index], truth[index]) for index in indices]
            for index, margins in zip(indices, self.ask_image(image, pairs), strict=True):
                if margins is not None:
                    self.margins[index] = np.array(margins)
                else:
                    self.skipped.append(
                        f"question {questions[index].id}: expected finite logits, and options of "
                        f"different first tokens, found {WHAT}, or equal tokens"
                    )
            progress(1, image)

        self.answerer.share.each(by_image, ask, "images")

    def ask_image(
        self, image: str, pairs: Sequence[tuple[Question, str]]
    ) -> list[list[float] | None]:
        """Return the margins of questions about one image, see ImageMargins. Raises BusyError where
        another process asks about it now.
        """
        answerer = self.answerer
        # All that margins depend on is in the key, the heads that are blocked one by one included.
        digest = answerer.samples[image].digest
        texts = [[question.prompt, question.choices, right] for question, right in pairs]
        subject = [ALGORITHMS["knockout-each"], image, digest, self.heads, texts]
        key = hash_json([answerer.key, *subject])

        def stored() -> list[list[float] | None] | None:
            """Return what is stored, where it counts."""
            record = None if answerer.fresh else answerer.store.kept(key, ImageMargins.from_json)
            return None if record is None else record.margins

        def compute() -> list[list[float] | None]:
            """Compute the margins and store them."""
            margins = self._compute(image, pairs)
            labels = {"run": answerer.run.name, "image": image}
            # Nothing is stored of a spoiled cache: it may be extracted anew, and then has margins.
            if any(margins):
                answerer.store.keep(key, {"kind": "margins", **labels, "margins": margins})
            return margins

        name = chunk_name("margins", image, key)
        # Another process may compute the same: only one does, the other one takes what is stored.
        return answerer.share.once(answerer.run, name, stored, compute)

    def _compute(
        self, image: str, pairs: Sequence[tuple[Question, str]]
    ) -> list[list[float] | None]:
        """Run an image's questions after its cache, which is read once."""
        from kvtool.models.single_heads import single_head_logits
        from kvtool.models.text_tree import TreeModel

        answerer = self.answerer
        kinds = cache_kinds(answerer.run.config.model.geometry)
        # A cache with values that are not finite has no margins.
        arrays = answerer.run.read_image(image, kinds, raw=True)
        if spoiled_arrays(arrays):
            return [None] * len(pairs)
        model, sample = answerer.loaded, answerer.samples[image]
        assert isinstance(model, TreeModel), "every family goes on with trees"
        cache = model.restore([sample], [arrays], answerer.run.config.keys)
        # Several files of a benchmark may ask the same: it is asked once.
        begun: dict[tuple[str, str], tuple[OptionText, int]] = {}
        for question, right in pairs:
            options = options_of(question, right)
            text = option_text(model, question, options)
            if text is not None:
                begun[question.prompt, right] = text, options.index(right)
        texts = [text for text, _ in begun.values()]
        # All questions and all blocked heads branch off from one cache.
        logits = single_head_logits(
            model,
            cache,
            sample,
            [text.text for text in texts],
            self.heads,
            [[*chain(*text.tokens)] for text in texts],
        )
        margins = {
            question: _rounded(margins_of(text_logits, text.tokens, right))
            for (question, (text, right)), text_logits in zip(begun.items(), logits, strict=True)
        }
        return [margins.get((question.prompt, right)) for question, right in pairs]


def _rounded(margins: Array) -> list[float] | None:
    """Return margins as they are stored; None where one is not finite."""
    if not np.isfinite(margins).all():
        return None
    return [float(f"{margin:.{DIGITS}g}") for margin in margins]
