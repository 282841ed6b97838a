"""Batches: which questions are asked of a picture, and how they lie in the slots of a packed sequence."""

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
SHORT: Mix = {
    "existence": 0.14, "color": 0.1, "count": 0.34, "side": 0.12, "relation": 0.14, "texture": 0.05, "size": 0.04,
    "count_things": 0.03, "time": 0.01, "style": 0.015, "place": 0.015,
}  # fmt: skip
MIDDLE: Mix = {
    "relation": 0.14, "relation_yes_no": 0.24, "side": 0.26, "color_yes_no": 0.08, "count_yes_no": 0.08,
    "existence": 0.04, "refer": 0.05, "describe": 0.03, "list_color": 0.02, "list": 0.03, "texture_yes_no": 0.02,
    "place": 0.01,
}  # fmt: skip
LONG: Mix = {"caption": 0.12, "relation_choice": 0.6, "count_choice": 0.23, "depth_choice": 0.05}


STUBBED = (
    "relation", "relation", "relation_yes_no", "relation_yes_no", "color_yes_no", "texture_yes_no", "count", "count",
    "count_yes_no", "existence", "color",
)  # fmt: skip
"""Kinds whose questions end, but for set phrases, with the thing they ask about."""


@cache
def category_ids() -> frozenset[int]:
    """Ids of the categories' names and plurals."""
    return frozenset(token_ids()[word] for name in categories() for word in (name, plural(name)))


def mix_for(length: int) -> Mix:
    """The kinds of questions that go into slots of that many tokens."""
    return SHORT if length <= 16 else MIDDLE if length <= 24 else LONG


class Slot(NamedTuple):
    """One slot: ids, next-token labels, and whether it is a drill."""

    ids: list[int]
    labels: list[int]
    early: bool = False


@dataclass(frozen=True)
class Packed:
    """Slots of a batch: `ids` and `labels` (B, slot tokens); a label is the next token, or IGNORED.

    `early` are the labels of drills alone, which must hold after a few layers already.
    """

    ids: Tensor
    labels: Tensor
    early: Tensor


def slot(question: str, answer: str, length: int) -> Slot | None:
    """Ids and next-token labels (answer and end mark alone) of a question after its image; None if too long."""
    ids = token_ids()
    asked = [*encode(question), ids["<|im_end|>"], ids["<|im_start|>"], ids["assistant"]]
    told = [*encode(answer), ids["<|im_end|>"]]
    whole = [*asked, *told]
    if len(whole) - 1 > length:
        return None
    # The end mark is only a label, never an input.
    labels = [IGNORED] * (len(asked) - 1) + told
    padding = length - len(labels)
    return Slot(whole[:-1] + [ids["<pad>"]] * padding, labels + [IGNORED] * padding)


def fill(rows: Sequence[Sequence[Slot]]) -> Packed:
    """The slots of each sequence, side by side."""
    ids = torch.tensor([[token for one in row for token in one.ids] for row in rows])
    labels = torch.tensor([[token for one in row for token in one.labels] for row in rows])
    drills = torch.tensor([[one.early for one in row for _ in one.ids] for row in rows])
    return Packed(ids, labels, torch.where(drills, labels, IGNORED))


class Asker:
    """Draws questions by the mix of each slot length; the others are shares of the slots up to 24 tokens."""

    def __init__(self, drills: float = 0.0, stubs: float = 0.0, chains: float = 0.0) -> None:
        self.drills, self.stubs, self.chains = drills, stubs, chains
        self._kinds: dict[int, tuple[list[str], np.ndarray]] = {}

    def _kind(self, rng: np.random.Generator, length: int) -> str:
        if length not in self._kinds:
            mix = mix_for(length)
            self._kinds[length] = list(mix), np.cumsum(list(mix.values())) / sum(mix.values())
        names, edges = self._kinds[length]
        return names[int(np.searchsorted(edges, rng.random()))]

    def ask(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """One slot; a scene always allows a count of things, which is the way out."""
        choice = rng.random() if length <= 24 else 1.0
        if choice < self.drills:
            return Slot(*drill(scene, rng, length), early=True)
        if choice < self.drills + self.stubs:
            return self.stub(scene, rng, length)
        if choice < self.drills + self.stubs + self.chains:
            return self.chain(scene, rng, length)
        for _ in range(20):
            question = KINDS[self._kind(rng, length)](scene, rng)
            found = question and slot(question.text, question.answer, length)
            if found:
                return found
        fallback: SceneQuestion | None = KINDS["count_things"](scene, rng)
        assert fallback is not None
        found = slot(fallback.text, fallback.answer, length)
        assert found is not None
        return found

    def stub(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """Questions cut off behind the last thing they name, the answer there: between drill and chain."""
        inputs: list[int] = []
        labels: list[int] = []
        for _ in range(4):
            question = KINDS[STUBBED[rng.integers(len(STUBBED))]](scene, rng)
            asked = encode(question.text) if question else ()
            names = [at for at, token in enumerate(asked) if token in category_ids()]
            if question and names and len(inputs) + names[-1] + 2 <= length:
                told = encode(question.answer)[0]
                inputs += [*asked[: names[-1] + 1], told]
                labels += [*[IGNORED] * names[-1], told, IGNORED]
        padding = length - len(inputs)
        return Slot(
            inputs + [token_ids()["<pad>"]] * padding, labels + [IGNORED] * padding, early=True
        )

    def chain(self, scene: Scene, rng: np.random.Generator, length: int) -> Slot:
        """Short questions one after the other, each answer directly behind: half way from drill to chat."""
        inputs: list[int] = []
        labels: list[int] = []
        for _ in range(8):
            question = KINDS[self._kind(rng, 16)](scene, rng)
            asked, told = (encode(question.text), encode(question.answer)) if question else ((), ())
            if question and len(inputs) + len(asked) + len(told) <= length:
                inputs += [*asked, *told]
                labels += [*[IGNORED] * (len(asked) - 1), *told, IGNORED]
        padding = length - len(inputs)
        return Slot(inputs + [token_ids()["<pad>"]] * padding, labels + [IGNORED] * padding)

    def pack(self, scenes: Sequence[Scene], rng: np.random.Generator, slots: Slots) -> Packed:
        lengths = [length for count, length in slots for _ in range(count)]
        return fill([[self.ask(scene, rng, length) for length in lengths] for scene in scenes])


def padded(rows: Sequence[Sequence[int]], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of ids -> ids (B, length), true lengths (B,), and the attention's bias (B, length)."""
    table = np.full((len(rows), length), token_ids()["<pad>"], dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    lengths = torch.tensor([len(row) for row in rows])
    bias = (torch.arange(length)[None] >= lengths[:, None]).float() * PADDING_BIAS
    return torch.from_numpy(table), lengths, bias


def text_context(scene: Scene, rng: np.random.Generator) -> list[int]:
    """The scene in words, where a prompt has its image: every thing, its spot, place, time and style."""
    ids = token_ids()
    told = encode(caption(scene, rng).rstrip(".") + f", {scene.style}.")
    return [ids["<|im_start|>"], ids["user"], *told][:TEXT_CONTEXT]


def draws(rng: np.random.Generator, total: int, count: int) -> Iterator[int]:
    """Indices with replacement."""
    yield from (int(index) for index in rng.integers(total, size=count))
