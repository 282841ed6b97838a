"""Log-probabilities of options and the values' evidence, added with one weight.

Blocks and weight are chosen on some questions and used on others. Options that a question does not
have are minus infinity among log-probabilities, and have no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvtool.stats.bootstrap import Array

WEIGHTS = np.concatenate([[0.0], 2.0 ** np.arange(-4, 6.5, 0.5)])
"""Weights to choose among: nats for each standard deviation of the evidence."""


@dataclass(frozen=True)
class OptionEvidence:
    """What model and values say of the options of questions.

    Args:
        log_probabilities: (question, option), the model's; minus infinity of absent options.
        cosines: (block, question, option), the values' evidence; absent options are ignored.
        labels: (question,), the right options.
    """

    log_probabilities: Array
    cosines: Array
    labels: Array

    @cached_property
    def present(self) -> Array:
        """Which options there are, (question, option) bool."""
        return np.isfinite(self.log_probabilities)

    @cached_property
    def margins(self) -> Array:
        """Each option's evidence less the mean of its question's, 0 where it is absent."""
        cosines = np.where(self.present, self.cosines, 0.0)
        means = cosines.sum(axis=-1, keepdims=True) / self.present.sum(axis=-1)[:, None]
        return np.where(self.present, cosines - means, 0.0)

    @cached_property
    def block_choices(self) -> Array:
        """The option that each block takes, (block, question)."""
        choices: Array = np.where(self.present, self.margins, -np.inf).argmax(axis=-1)
        return choices

    @cached_property
    def chance(self) -> Array:
        """The probability that a guess is right, (question,)."""
        shares: Array = 1 / self.present.sum(axis=-1)
        return shares


@dataclass(frozen=True)
class Fusion:
    """How evidence is added to log-probabilities.

    Args:
        blocks: indices of the blocks, the best first.
        shares: (block,), by how much each block's margins are multiplied.
        weight: by how much their sum is.
    """

    blocks: Array
    shares: Array
    weight: float


def choose_fusion(
    evidence: OptionEvidence, choosing: Array, n_blocks: int, order: Array | None = None
) -> Fusion:
    """Choose the blocks that are right most often, and the weight under which the sum is.

    Of equal blocks the first is taken, of equal weights the smallest: without a gain nothing is
    added. A block counts by how far it is above chance, in standard deviations of its margins.

    Args:
        evidence: what model and values say.
        choosing: indices of the questions to choose by.
        n_blocks: the number of blocks whose evidence is added.
        order: (question,), whose evidence each question has, by default its own.
    """
    # With permuted evidence, each question keeps its labels and gets another one's values.
    sources = choosing if order is None else order[choosing]
    labels = evidence.labels[choosing]
    accuracies = (evidence.block_choices[:, sources] == labels).mean(axis=1)
    blocks = np.argsort(-accuracies, kind="stable")[:n_blocks]
    gains = np.maximum(accuracies[blocks] - evidence.chance[choosing].mean(), 0.0)
    # Where no block is above chance, all count alike: their weight is chosen all the same.
    if not gains.any():
        gains = np.ones(len(blocks))
    # Evidence of kinds and layers differs in scale: it is divided by its spread before it is added.
    margins = evidence.margins[blocks][:, sources]
    present = evidence.present[choosing]
    shares = gains / gains.sum() / _spread(margins, present)
    total = np.tensordot(shares, margins, axes=1)
    # The sum is scaled too, so that one weight means the same for any number of blocks.
    shares = shares / _spread(total[None], present)
    total = np.tensordot(shares, margins, axes=1)
    # (weight, question, option): every weight answers all questions.
    fused = evidence.log_probabilities[choosing] + WEIGHTS[:, None, None] * total
    right_counts = (fused.argmax(axis=-1) == labels).sum(axis=1)
    return Fusion(blocks, shares, float(WEIGHTS[right_counts.argmax()]))


def _spread(margins: Array, present: Array) -> Array:
    """Return the standard deviation of margins (block, question, option) over the options there
    are, (block,); 1 where all are equal."""
    spread = np.sqrt((margins**2).sum(axis=(1, 2)) / present.sum())
    return np.where(spread > 0, spread, 1.0)


def fused_choices(
    evidence: OptionEvidence, fusion: Fusion, scoring: Array, order: Array | None = None
) -> tuple[Array, Array]:
    """Return what the values alone and the sum choose for some questions, (question,) each."""
    sources = scoring if order is None else order[scoring]
    total = np.tensordot(fusion.shares, evidence.margins[fusion.blocks][:, sources], axes=1)
    log_probabilities = evidence.log_probabilities[scoring]
    # Options that a question lacks are never chosen.
    value = np.where(evidence.present[scoring], total, -np.inf).argmax(axis=-1)
    return value, (log_probabilities + fusion.weight * total).argmax(axis=-1)


@dataclass(frozen=True)
class CrossedChoices:
    """What is chosen for questions by what the other half chose.

    Args:
        rows: indices of the questions that are in a half, ascending.
        half: (row,), 0 or 1, the half in which each is scored.
        value: (row,), what the values choose.
        fused: (row,), what the sum chooses.
        fusions: of the first and of the second half that is scored.
    """

    rows: Array
    half: Array
    value: Array
    fused: Array
    fusions: tuple[Fusion, Fusion]


def crossed_choices(
    evidence: OptionEvidence,
    sides: tuple[Array, Array],
    n_blocks: int,
    order: Array | None = None,
) -> CrossedChoices:
    """Choose on either half and answer the other one, so that each question is scored once.

    Args:
        evidence: what model and values say.
        sides: indices of the questions of both halves.
        n_blocks: the number of blocks whose evidence is added.
        order: (question,), whose evidence each question has, by default its own.
    """
    first = choose_fusion(evidence, sides[1], n_blocks, order)
    second = choose_fusion(evidence, sides[0], n_blocks, order)
    answers = [
        fused_choices(evidence, fusion, side, order)
        for fusion, side in zip((first, second), sides, strict=True)
    ]
    rows = np.concatenate(sides)
    # Both halves' answers come back in the order of the questions.
    by_row = np.argsort(rows)
    half = np.repeat([0, 1], [len(side) for side in sides])
    value, fused = (np.concatenate(parts)[by_row] for parts in zip(*answers, strict=True))
    return CrossedChoices(rows[by_row], half[by_row], value, fused, (first, second))
