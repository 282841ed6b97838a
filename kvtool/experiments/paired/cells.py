"""Model and values on the same questions: four cells of right and wrong, and a record a
question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kvtool.asking.paired.pictures import picture_clusters
from kvtool.asking.paired.readings import ValueReading, letter
from kvtool.datasets.base import Question
from kvtool.features.layers import Layer
from kvtool.result import Row
from kvtool.stats.bootstrap import Array
from kvtool.stats.mcnemar import mcnemar
from kvtool.tasks.base import Table

CELL_OF = {
    (True, True): "both",
    (True, False): "value_only",
    (False, True): "model_only",
    (False, False): "neither",
}
"""By whether the values, and the model, are right."""
CELLS = tuple(CELL_OF.values())


@dataclass(frozen=True)
class ComparedAnswers:
    """Answered questions, as kvtool.tasks.walk.score_blocks scores them.

    Args:
        questions: the questions.
        reading: how the values answer them.
        options: what the model chose for each question, as a letter in brackets, or nothing; None
            where it gave no answer: such a question is scored on neither side.
        metric: "value", or a further metric of the reading, which makes the cells.
        digests: what tells the pictures of image ids apart, by default the ids.
    """

    questions: Sequence[Question]
    reading: ValueReading
    options: Sequence[str | None]
    metric: str = "value"
    digests: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def labels(self) -> Array:
        """The index of each question's right choice, (question,)."""
        return np.array([ord(question.answer[1]) - ord("A") for question in self.questions])

    @cached_property
    def model_right(self) -> Array:
        """Whether the model is right, (question,) bool."""
        pairs = zip(self.questions, self.options, strict=True)
        return np.array([option == question.answer for question, option in pairs])

    @cached_property
    def answered(self) -> Array:
        """Indices of the questions that the model answered: those that are scored."""
        return np.flatnonzero([option is not None for option in self.options])

    @cached_property
    def pictures(self) -> list[tuple[str, ...]]:
        """The pictures of each question."""
        return [
            tuple(self.digests.get(image) or image for image in question.image_ids)
            for question in self.questions
        ]

    @cached_property
    def clusters(self) -> Array | None:
        """What is resampled in place of the questions that are scored, see picture_clusters."""
        return picture_clusters([self.pictures[index] for index in self.answered])

    @cached_property
    def n_choices(self) -> Array:
        """The number of each question's choices, (question,)."""
        return np.array([len(question.choices) for question in self.questions])

    @cached_property
    def chance(self) -> float:
        """The share of right answers by chance, among the questions that are scored."""
        return float((1 / self.n_choices[self.answered]).mean())

    def measure(self, layer: Layer) -> Array:
        """Return (head, question, 1 + further), see Reading.read."""
        return self.reading.read(layer)

    def right(self, measured: Array) -> dict[str, Array]:
        """Return whether the values are right by each metric, (..., question) bool."""
        further = {
            name: measured[..., 1 + index] == 1 for index, name in enumerate(self.reading.further)
        }
        return {"value": measured[..., 0] == self.labels, **further}

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the units of all questions, cells first, and their scores."""
        # Blocks and model answer the same questions: the cells are a two by two table of each.
        right = self.right(measured)
        value = right[self.metric]
        model = np.broadcast_to(self.model_right, value.shape)
        # Four counts that add up to the questions: all shares follow from their sums.
        cells = [value & model, value & ~model, ~value & model, ~value & ~model]
        further = [name for name in right if name != self.metric]
        units = np.stack([*cells, *(right[name] for name in further)], axis=-1).astype(np.float64)
        units = units[:, self.answered]

        def scores(sums: Array) -> dict[str, Array]:
            """Score sums (..., cells and further metrics)."""
            # Resamples of pictures vary in their number of questions: shares follow it.
            shares = np.moveaxis(sums / sums[..., :4].sum(-1, keepdims=True), -1, 0)
            both_right, value_only, model_only, neither = shares[:4]
            return {
                self.metric: both_right + value_only,
                **dict(zip(further, shares[4:], strict=True)),
                "model": both_right + model_only,
                "union": both_right + value_only + model_only,
                **dict(zip(CELLS, (both_right, value_only, model_only, neither), strict=True)),
            }

        yield Table({}, units, scores, clusters=self.clusters)

    def counted(self, row: Row) -> Row:
        """Complete a row with what follows from its shares: counts, McNemar's test, and chance.

        A block without scores has none of it.
        """
        if row.get("nonfinite"):
            undefined = [*(f"n_{cell}" for cell in CELLS), "mcnemar_p", "mcnemar_mid_p"]
            return row | dict.fromkeys(undefined) | {"chance": self.chance}
        counts = {cell: round(row[cell] * row["n"]) for cell in CELLS}
        # McNemar's test needs the discordant questions alone, in any order.
        model_only = np.arange(counts["model_only"] + counts["value_only"]) < counts["model_only"]
        test = mcnemar(model_only, ~model_only)
        tested = {"mcnemar_p": test.p, "mcnemar_mid_p": test.mid_p, "chance": self.chance}
        return row | {f"n_{cell}": count for cell, count in counts.items()} | tested

    def items(
        self, measured: Array, answers: Sequence[str | None], scored: Array
    ) -> Iterator[dict[str, Any]]:
        """Yield a record for each question of one block: measured (question, 1 + further).

        Questions outside `scored` (indices) have no cell: they are those by which the block was
        chosen, and those without an answer.
        """
        right = self.right(measured)[self.metric].tolist()
        scored_set = set(scored.tolist())
        for index, question in enumerate(self.questions):
            option = self.options[index]
            model = None if option is None else option == question.answer
            cell = None if model is None else CELL_OF[right[index], model]
            yield {
                "id": question.id,
                "images": list(question.image_ids),
                "label": question.answer,
                "answer": answers[index],
                "said": option,
                "model": model,
                "value": letter(int(measured[index, 0])),
                "value_right": right[index],
                "cell": cell if index in scored_set else None,
            }
