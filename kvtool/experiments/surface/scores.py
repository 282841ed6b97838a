"""The scores of model, values and both, each question scored once, and what permuted values get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvtool.asking.paired.pictures import picture_clusters, same_pictures
from kvtool.asking.paired.readings import letter
from kvtool.asking.records import numbered, with_interval
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.experiments.surface.fusion import (
    CrossedChoices,
    Fusion,
    OptionEvidence,
    crossed_choices,
)
from kvtool.experiments.surface.shares import FIXED, share_row
from kvtool.result import Row
from kvtool.stats.bootstrap import Array
from kvtool.stats.halves import halves
from kvtool.stats.mcnemar import mcnemar
from kvtool.stats.permutation import orders, share_as_high
from kvtool.tasks.base import Table, table_rows

DRAWS = 999
"""Permutations of the values between questions."""
ENDS = (0.025, 0.975)
METRIC = "accuracy"
Block = tuple[str, int, int]
"""Kind, layer and head."""


@dataclass(frozen=True)
class SurfaceScores:
    """Questions that the model answers, and what it and the values say of them.

    Args:
        questions: the questions.
        pictures: the pictures of each.
        text_right: (question,) bool, whether the model's written answer is right.
        evidence: what model and values say of the options.
        blocks: the blocks of the evidence.
        n_blocks: the number of blocks whose evidence is added.
        seed: the random seed of halves, intervals and permutations.
        marks: what tells questions of the same pictures and words apart, such as their points.
    """

    questions: Sequence[Question]
    pictures: Sequence[tuple[str, ...]]
    text_right: Array
    evidence: OptionEvidence
    blocks: Sequence[Block]
    n_blocks: int
    seed: int
    marks: Sequence[str] | None = None

    @cached_property
    def clusters(self) -> Array | None:
        """What is halved and resampled in place of questions, see picture_clusters."""
        return picture_clusters(self.pictures)

    @cached_property
    def sides(self) -> tuple[Array, Array]:
        """The questions of both halves of the pictures. Raises UsageError where one is empty."""
        sides = halves(len(self.questions), self.seed, self.clusters)
        if not all(map(len, sides)):
            raise UsageError(
                "surface: expected questions on two halves of the pictures, found them on one "
                "alone; ask about more pictures"
            )
        return sides

    @cached_property
    def crossed(self) -> CrossedChoices:
        """What values and sum choose."""
        return crossed_choices(self.evidence, self.sides, self.n_blocks)

    @cached_property
    def model(self) -> Array:
        """The option that the model finds likeliest, (question,)."""
        choices: Array = self.evidence.log_probabilities.argmax(axis=-1)
        return choices

    @cached_property
    def right(self) -> dict[str, Array]:
        """Whether each condition is right, (row,) bool, on the rows of `crossed`."""
        rows = self.crossed.rows
        labels = self.evidence.labels[rows]
        model = self.model[rows] == labels
        value = self.crossed.value == labels
        return {
            "model": model,
            "written": self.text_right[rows],
            "value": value,
            "fused": self.crossed.fused == labels,
            "either": model | value,
        }

    def rows(self) -> list[Row]:
        """Return a row for each condition, that of permuted values, and one for each half."""
        every_row = np.arange(len(self.crossed.rows))
        rows = self._scored(list(self.right), every_row, {})
        fused = rows[list(self.right).index("fused")]
        permuted, p = self._permuted()
        fused |= self._tests() | {"permuted_p": p}
        chance = {"chance": float(self._chance(every_row)), "chance_kind": "guessing"}
        return [*rows, permuted | chance, *self._half_rows()]

    def _half_rows(self) -> Iterator[Row]:
        """Yield the sum's scores on either half, with the block and weight of the other one."""
        for half, fusion in enumerate(self.crossed.fusions):
            # The block was chosen on the other half: the score on this one is not flattered.
            rows = np.flatnonzero(self.crossed.half == half)
            kind, layer, kv_head = self.blocks[fusion.blocks[0]]
            block = {"kind": kind, "layer": layer, "kv_head": kv_head}
            facts = {"weight": fusion.weight, "n_blocks": len(fusion.blocks)}
            subset = {"subset": f"half {half + 1}"}
            yield self._scored(["fused"], rows, subset)[0] | block | facts

    def _scored(self, names: Sequence[str], rows: Array, labels: Row) -> list[Row]:
        """Return the scores of conditions on some of the rows."""
        model = self.right["model"][rows]
        # Each condition stands beside the model: a resample scores both on the same questions.
        parts = [(np.ones(len(rows)), self.right[name][rows], model) for name in names]
        units = np.stack([np.stack(part, axis=-1) for part in parts]).astype(np.float64)
        table = Table({}, units, _accuracies, clusters=picture_clusters(self._pictures(rows)))
        chance = {"chance": float(self._chance(rows)), "chance_kind": "guessing"}
        blocks = [{"condition": name, **labels} for name in names]
        return [
            row | self._changes(name, rows) | chance
            for name, row in zip(names, table_rows(blocks, table, self.seed), strict=True)
        ]

    def _changes(self, name: str, rows: Array) -> Row:
        """Return what a condition gains of the questions among the rows that the values alone have
        right, and what it loses of those that the model has right."""
        # Gains can only come from what values alone know, losses only from what the model knew.
        value_only = rows[self.right["value"][rows] & ~self.right["model"][rows]]
        model = rows[self.right["model"][rows]]
        changes = {
            "gained": (self.right[name][value_only], value_only),
            "lost": (~self.right[name][model], model),
        }
        fields: Row = {}
        for change, (hits, among) in changes.items():
            is_fixed = change in FIXED.get(name, ())
            fields |= share_row(change, hits, self._pictures(among), self.seed, is_fixed)
        return fields

    def _pictures(self, rows: Array) -> list[tuple[str, ...]]:
        """Return the pictures of some of the rows' questions."""
        return [self.pictures[row] for row in self.crossed.rows[rows]]

    def _chance(self, rows: Array) -> Any:
        """Return the share that guesses have right, of some of the rows."""
        return self.evidence.chance[self.crossed.rows[rows]].mean()

    def _tests(self) -> Row:
        """Return McNemar's test of the sum against the model, by distinct question."""
        # Marked points tell questions of one pair of pictures apart.
        marks = self.marks or [""] * len(self.questions)
        keys = [
            (self.pictures[row], self.questions[row].prompt, marks[row])
            for row in self.crossed.rows.tolist()
        ]
        distinct = np.unique(numbered(keys), return_index=True)[1]
        test = mcnemar(self.right["model"][distinct], self.right["fused"][distinct])
        return {
            "n_distinct": len(distinct),
            "n_gained": test.gained,
            "n_lost": test.lost,
            "mcnemar_p": test.p,
            "mcnemar_mid_p": test.mid_p,
        }

    def _permuted(self) -> tuple[Row, float]:
        """Return what the sum gets with the values of other questions, and how often it gains as
        much as with their own.

        Blocks and weight are chosen anew in each draw. Questions about the same pictures move
        together, to questions with as many options.
        """
        labels = self.evidence.labels[self.crossed.rows]
        n_options = self.evidence.present.sum(axis=-1)
        pictures = same_pictures(self.pictures)
        shares = []
        for chunk in orders(n_options, pictures, len(n_options), DRAWS, self.seed):
            for order in chunk:
                crossed = crossed_choices(self.evidence, self.sides, self.n_blocks, order)
                shares.append(float((crossed.fused == labels).mean()))
        accuracies = np.array(shares)
        model = self.right["model"].mean()
        p = share_as_high(accuracies, float(self.right["fused"].mean()))
        row = {"condition": "permuted"} | _range(METRIC, accuracies)
        return row | _range("difference", accuracies - model) | {"n": len(labels)}, p

    def items(self, answers: Sequence[str | None]) -> Iterator[Row]:
        """Yield a record for each scored question.

        Args:
            answers: (question,), what the model wrote.
        """
        crossed = self.crossed
        for index, row in enumerate(crossed.rows.tolist()):
            question = self.questions[row]
            fusion: Fusion = crossed.fusions[crossed.half[index]]
            yield {
                "id": question.id,
                "images": list(question.image_ids),
                "label": question.answer,
                "answer": answers[row],
                "model": letter(int(self.model[row])),
                "value": letter(int(crossed.value[index])),
                "fused": letter(int(crossed.fused[index])),
                "half": int(crossed.half[index]) + 1,
                "weight": fusion.weight,
            }


def _accuracies(sums: Array) -> dict[str, Array]:
    """Return the scores of sums (..., 3): questions, right, and right by the model."""
    n, right, model = np.moveaxis(sums, -1, 0)
    return {METRIC: right / n, "difference": (right - model) / n}


def _range(name: str, samples: Array) -> Row:
    """Return the mean of draws and the range of 95 % of them."""
    return with_interval(name, float(samples.mean()), *np.quantile(samples, ENDS).tolist())
