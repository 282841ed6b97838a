"""Batches: which questions a picture gets, and how they lie in the slots of a packed sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kvtool.demo.language import caption, plural
from kvtool.demo.questions import KINDS, SceneQuestion
from kvtool.demo.training.config import IGNORED, Slots
from kvtool.demo.training.drills import drill
from kvtool.demo.training.text import encode, token_ids
from kvtool.demo.world import Scene, categories

PADDING_BIAS = -1e4
TEXT_CONTEXT = 60

Mix = dict[str, float]
"""Kind of question -> its share."""
SHORT: Mix = {
    "existence": 0.14, "color": 0.1, "count": 0.34, "side": 0.12, "relation": 0.14, "texture": 0.05,
    "size": 0.04, "count_things": 0.03, "time": 0.01, "style": 0.015, "place": 0.015,
}  # fmt: skip
MIDDLE: Mix = {
    "relation": 0.14, "relation_yes_no": 0.24, "side": 0.26, "color_yes_no": 0.08,
    "count_yes_no": 0.08, "existence": 0.04, "refer": 0.05, "describe": 0.03, "list_color": 0.02,
    "list": 0.03, "texture_yes_no": 0.02, "place": 0.01,
}  # fmt: skip
LONG: Mix = {"caption": 0.12, "relation_choice": 0.6, "count_choice": 0.23, "depth_choice": 0.05}
SHORT_TOKENS = 16
MIDDLE_TOKENS = 24
STUBS = (
    "relation", "relation", "relation_yes_no", "relation_yes_no", "color_yes_no", "texture_yes_no",
    "count", "count", "count_yes_no", "existence", "color",
)  # fmt: skip
"""The kinds whose questions end, but for set phrases, with the thing they ask about."""


@cache
def category_ids() -> frozenset[int]:
    """Return the ids of the categories' names and plurals."""
    names = [*categories(), *(plural(name) for name in categories())]
    return frozenset(token_ids()[name] for name in names)


def mix_for(length: int) -> Mix:
    """Return the kinds of questions that go into slots of that many tokens."""
    if length <= SHORT_TOKENS:
        return SHORT
    return MIDDLE if length <= MIDDLE_TOKENS else LONG


class Slot(NamedTuple):
    """One slot: ids, next-token labels, and whether it is a drill."""

    ids: list[int]
    labels: list[int]
    early: bool = False


@dataclass(frozen=True)
class Packed:
    """The slots of a batch, side by side.

    Attributes:
        ids: (B, slot tokens).
        labels: (B, slot tokens), the next tokens, or IGNORED.
        early: The labels of drills alone, which must hold after a few layers already.
    """

    ids: Tensor
    labels: Tensor
    early: Tensor


def slot(question: str, answer: str, length: int) -> Slot | None:
    """Return the slot of a question and its answer, or None if they are too long.

    The labels are those of the answer and its end mark alone.
    """
    ids = token_ids()
    question_ids = [*encode(question), ids["<|im_end|>"], ids["<|im_start|>"], ids["assistant"]]
    answer_ids = [*encode(answer), ids["<|im_end|>"]]
    sequence = [*question_ids, *answer_ids]
    if len(sequence) - 1 > length:
        return None
    # The end mark is only a label, never an input.
    labels = [IGNORED] * (len(question_ids) - 1) + answer_ids
    return _padded_slot(sequence[:-1], labels, length)


def _padded_slot(inputs: list[int], labels: list[int], length: int, early: bool = False) -> Slot:
    padding = length - len(inputs)
    return Slot(inputs + [token_ids()["<pad>"]] * padding, labels + [IGNORED] * padding, early)


def fill(rows: Sequence[Sequence[Slot]]) -> Packed:
    """Put the slots of each sequence side by side."""
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    early: list[list[bool]] = []
    for row in rows:
        ids.append([token for slot in row for token in slot.ids])
        labels.append([label for slot in row for label in slot.labels])
        early.append([slot.early for slot in row for _ in slot.ids])
    labels_tensor = torch.tensor(labels)
    drills = torch.tensor(early)
    return Packed(torch.tensor(ids), labels_tensor, torch.where(drills, labels_tensor, IGNORED))


class Asker:
    """Draws questions by the mix of each slot length.

    Args:
        drills: The share of drills among the slots up to 24 tokens.
        stubs: The share of questions that are cut off, likewise.
        chains: The share of chains of questions, likewise.
    """

    def __init__(self, drills: float = 0.0, stubs: float = 0.0, chains: float = 0.0) -> None:
        self.drills = drills
        self.stubs = stubs
        self.chains = chains
        self._kinds: dict[int, tuple[list[str], np.ndarray]] = {}

    def _kind(self, rng: np.random.Generator, length: int) -> str:
        if length not in self._kinds:
            mix = mix_for(length)
            edges = np.cumsum(list(mix.values())) / sum(mix.values())
            self._kinds[length] = (list(mix), edges)
        names, edges = self._kinds[length]
        return names[int(np.searchsorted(edges, rng.random()))]

    def ask(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """Fill one slot; a scene always allows a count of things, which is the way out."""
        # Drills, stubs and chains are for short slots; long ones hold whole questions.
        choice = rng.random() if length <= MIDDLE_TOKENS else 1.0
        if choice < self.drills:
            return Slot(*drill(scene, rng, length), early=True)
        if choice < self.drills + self.stubs:
            return self.stub(scene, rng, length)
        if choice < self.drills + self.stubs + self.chains:
            return self.chain(scene, rng, length)
        # A scene may not allow the kind that is drawn, or its text may not fit.
        for _ in range(20):
            question = KINDS[self._kind(rng, length)](scene, rng)
            filled = question and slot(question.text, question.answer, length)
            if filled:
                return filled
        fallback: SceneQuestion | None = KINDS["count_things"](scene, rng)
        assert fallback is not None  # every scene allows it
        filled = slot(fallback.text, fallback.answer, length)
        assert filled is not None  # it is shorter than any slot
        return filled

    def stub(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """Cut questions off behind the last thing they name, and put the answer there.

        They are half way from drill to chain.
        """
        inputs: list[int] = []
        labels: list[int] = []
        for _ in range(4):
            question = KINDS[STUBS[rng.integers(len(STUBS))]](scene, rng)
            if question is None:
                continue
            question_ids = encode(question.text)
            positions = [i for i, token in enumerate(question_ids) if token in category_ids()]
            if positions and len(inputs) + positions[-1] + 2 <= length:
                # The answer follows the thing's name directly: nothing stands between the two.
                answer_id = encode(question.answer)[0]
                inputs += [*question_ids[: positions[-1] + 1], answer_id]
                labels += [*[IGNORED] * positions[-1], answer_id, IGNORED]
        return _padded_slot(inputs, labels, length, early=True)

    def chain(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """Put short questions one after the other, each answer directly behind.

        They are half way from drill to chat.
        """
        inputs: list[int] = []
        labels: list[int] = []
        for _ in range(8):
            question = KINDS[self._kind(rng, SHORT_TOKENS)](scene, rng)
            if question is None:
                continue
            question_ids = encode(question.text)
            answer_ids = encode(question.answer)
            if len(inputs) + len(question_ids) + len(answer_ids) <= length:
                inputs += [*question_ids, *answer_ids]
                labels += [*[IGNORED] * (len(question_ids) - 1), *answer_ids, IGNORED]
        return _padded_slot(inputs, labels, length)

    def pack(self, scenes: Sequence[Scene], rng: np.random.Generator, slots: Slots) -> Packed:
        """Fill all slots of each scene."""
        lengths = slot_lengths(slots)
        rows = []
        for scene in scenes:
            rows.append([self.ask(scene, rng, length) for length in lengths])
        return fill(rows)


def slot_lengths(slots: Slots) -> list[int]:
    """Return the number of tokens of each slot."""
    return [length for count, length in slots for _ in range(count)]


def padded(rows: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pad rows of ids to one length.

    Returns:
        Ids (B, length), true lengths (B,), and the attention's bias (B, length).
    """
    table = np.full((len(rows), length), token_ids()["<pad>"], dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    lengths = torch.tensor([len(row) for row in rows])
    bias = (torch.arange(length)[None] >= lengths[:, None]).float() * PADDING_BIAS
    return torch.from_numpy(table), lengths, bias


def text_context(scene: Scene, rng: np.random.Generator) -> list[int]:
    """Say in words what a prompt would show: every thing, its spot, place, time and style."""
    ids = token_ids()
    text = caption(scene, rng).rstrip(".") + f", {scene.style}."
    return [ids["<|im_start|>"], ids["user"], *encode(text)][:TEXT_CONTEXT]


def draws(rng: np.random.Generator, total: int, count: int) -> Iterator[int]:
    """Draw indices below `total` with replacement."""
    yield from (int(index) for index in rng.integers(total, size=count))
