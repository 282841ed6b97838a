"""What values that know nothing get under the same rule, and how sure it is that these know more.

The best of many blocks that guess is well above one that guesses, and so is the share of questions
that it has right and the model wrong: what a best block shows has to be set beside both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kvtool.asking.paired.pictures import same_pictures
from kvtool.asking.paired.readings import LinearProbe
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.features.layers import Layer
from kvtool.result import Row
from kvtool.stats.bootstrap import Array
from kvtool.stats.permutation import BestOfBlocks, flipped_best, permuted_best
from kvtool.tasks.base import Table
from kvtool.tasks.blocks import DECODER

if TYPE_CHECKING:
    import torch

DRAWS = 2000
SURE = 0.05
"""The p below which the best block exceeds chance."""
ENDS = (0.025, 0.975)
TESTED = ("value_p", "value_only_p", "better_p")
"""The fields of the best block's tests."""
Block = tuple[str, int, int]
"""Kind, layer and head."""


@dataclass(frozen=True)
class RecordedAnswers:
    """Compared answers, as score_blocks scores them, that remember what every block answers.

    `blocks` holds what was measured of each, (question, 1 + further), by kind, layer and head;
    `vectors` what linear probes were trained on, (question, dim).
    """

    compared: ComparedAnswers
    unit: ClassVar[str] = "fraction"
    blocks: dict[Block, Array] = field(default_factory=dict)
    vectors: dict[Block, torch.Tensor] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric by which blocks are compared."""
        return self.compared.metric

    def measure(self, layer: Layer) -> Array:
        """Return (head, question, 1 + further), and remember it where it is finite."""
        # Probes are trained anew in the tests: their vectors are remembered beside the choices.
        reading = self.compared.reading
        if isinstance(reading, LinearProbe):
            vectors = reading.vectors(layer)
            measured = reading.choices(vectors)[:, :, None]
        else:
            measured = self.compared.measure(layer)
        for index, head in enumerate(layer.heads):
            if not layer.nonfinite[index]:
                self.blocks[layer.kind, layer.layer, head] = measured[index]
                if isinstance(reading, LinearProbe):
                    self.vectors[layer.kind, layer.layer, head] = vectors[index]
        return measured

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield what ComparedAnswers.tables does."""
        return self.compared.tables(measured)

    def candidates(self) -> list[Array]:
        """Return what was measured of the blocks among which the best one is chosen."""
        return self._among(self.blocks)

    def _among(self, by_block: Mapping[Block, Any]) -> list[Any]:
        """Return what belongs to blocks of the decoder; to all where there are none of it."""
        decoder = [value for block, value in by_block.items() if block[0] in DECODER]
        return decoder or list(by_block.values())

    def tests(self, best: Mapping[str, Any], scored: Array, seed: int) -> Row:
        """Return the tests of the best block on the questions `scored` (indices).

        value_p and value_only_p are against values that know nothing, better_p is that values
        answer more questions right than the model, one-sided. Where the block is the best of these
        questions, all three are of the best of all blocks; where it was chosen on others, of it
        alone. Questions about the same pictures are permuted and flipped together. The first two
        are None where PCK makes the cells, whose choices have no label to permute; better_p is
        None of linear probes, whose answers across folds are not independent.
        """
        if isinstance(self.compared.reading, LinearProbe):
            return self._tests_of_probes(self.compared.reading, scored, seed)
        compared = self.compared
        # The best of many is tested as the best of many; one chosen elsewhere by itself.
        block = (best["kind"], best["layer"], best["kv_head"])
        blocks = self.candidates() if best["select"] == "max" else [self.blocks[block]]
        measured = np.stack(blocks)[:, scored]
        model_right = compared.model_right[scored]
        right = np.stack([compared.right(answers)[self.metric][scored] for answers in blocks])
        # Questions about the same pictures have one vector: they cannot be permuted apart.
        pictures = same_pictures([compared.pictures[index] for index in scored])
        better = flipped_best(right, model_right, clusters=pictures, seed=seed)
        if self.metric != "value":
            return dict(zip(TESTED, (None, None, better), strict=True))
        null = permuted_best(
            measured[..., 0].astype(np.int64),
            compared.labels[scored],
            model_right,
            compared.n_choices[scored],
            clusters=pictures,
            seed=seed,
        )
        return _tested(null, better)

    def _tests_of_probes(self, probe: LinearProbe, scored: Array, seed: int) -> Row:
        """Return the tests of the best of all linear probes.

        With select "split" the first half, which chose the block, chooses one anew in each draw:
        the halves train each other's probes, so that no choice on one is independent of the other.
        """
        import torch

        from kvtool.experiments.paired.retraining import retrained_best

        compared = self.compared
        # The questions that chose the block, none where it was chosen on those it is scored on.
        choosing = np.setdiff1d(compared.answered, scored)
        null = retrained_best(
            probe,
            torch.stack(self._among(self.vectors)),
            compared.model_right,
            same_pictures(compared.pictures),
            choosing if len(choosing) else scored,
            scored,
            seed,
        )
        return _tested(null, None)


def _tested(null: BestOfBlocks, better: float | None) -> Row:
    tests = dict(zip(TESTED, (null.right_p, null.value_only_p, better), strict=True))
    return {**tests, "exceeds_chance": null.right_p < SURE}


def guesses(n_choices: Array, model_right: Array, n_blocks: int, seed: int) -> Row:
    """Return the scores of blocks that guess: of one, and of the best of `n_blocks`.

    chance is the share that one has right, and guess_value_only what it has right and the model
    wrong; chance_max and guess_best_value_only are those of the best of as many that guess
    independently. Each has the range of 95 % of the draws.

    Args:
        n_choices: (question,), the number of choices.
        model_right: (question,) bool, whether the model is right.
        n_blocks: The number of blocks.
        seed: The random seed of the draws.
    """
    n = len(n_choices)
    rng = np.random.default_rng(seed)
    # Right guesses where the model is wrong and where it is right are drawn apart: the first are
    # what only values have.
    gain = _right(n_choices[~model_right], n_blocks, rng)
    right = gain + _right(n_choices[model_right], n_blocks, rng)
    # In each draw the best guesser counts, since the best block is what it is compared with.
    best = right.argmax(axis=1)
    rows = np.arange(DRAWS)
    chance = 1 / n_choices
    row = {"chance_kind": "guessing", "n_blocks": n_blocks}
    row |= _range("chance", right[:, 0] / n, float(chance.mean()))
    row |= _range("guess_value_only", gain[:, 0] / n, float(chance[~model_right].sum() / n))
    row |= _range("chance_max", right[rows, best] / n)
    return row | _range("guess_best_value_only", gain[rows, best] / n)


def _right(n_choices: Array, n_blocks: int, rng: np.random.Generator) -> Array:
    """Draw how many questions each block guesses right, (draw, block)."""
    right = np.zeros((DRAWS, n_blocks), np.int64)
    # Questions of equally many choices are one binomial draw.
    for choices, count in zip(*np.unique(n_choices, return_counts=True), strict=True):
        right += rng.binomial(count, 1 / choices, size=right.shape)
    return right


def _range(name: str, samples: Array, mean: float | None = None) -> Row:
    """Return a score's mean, by default that of the draws, and its range."""
    low, high = np.quantile(samples, ENDS).tolist()
    value = float(samples.mean()) if mean is None else mean
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def beside_guesses(
    rows: Sequence[Row], compared: ComparedAnswers, scored: Array, n_blocks: int, seed: int
) -> list[Row]:
    """Set beside each row what guessing gives on the questions `scored` (indices).

    Where PCK makes the cells, guessing a choice says nothing of them: only `chance` remains.
    """
    fields = guesses(compared.n_choices[scored], compared.model_right[scored], n_blocks, seed)
    if compared.metric != "value":
        fields = {name: fields[name] for name in ("chance", "chance_kind", "n_blocks")}
    return [row | fields for row in rows]
