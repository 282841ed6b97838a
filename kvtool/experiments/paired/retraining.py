"""Tests of linear probes, which are trained again for every permutation of the questions.

A probe's answers across folds depend on the very labels they are compared with: whatever two
questions have in common counts when the first is in training and the second is answered, and again
the other way round. So the number of right answers varies more than that of given choices over
permuted questions, and a test that permutes choices as they are finds far too much (a quarter of
null studies at .05, see docs/measures.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvtool.asking.paired.readings import LinearProbe
from kvtool.stats.permutation import BestOfBlocks, orders, share_as_high
from kvtool.stats.resampling import Array

if TYPE_CHECKING:
    import torch

DRAWS = 199
"""Permutations: each trains a probe of every block and fold."""
AT_ONCE = 128
"""Probes that are trained together."""


def retrained_best(
    probe: LinearProbe,
    vectors: torch.Tensor,
    model_right: Array,
    clusters: Array,
    choosing: Array,
    scored: Array,
    seed: int,
) -> BestOfBlocks:
    """Test the best block against blocks whose vectors know nothing of the questions.

    Where they know nothing, the vectors of a picture belong to any other picture's questions as
    well as to its own: they are permuted, and labels, folds and the model's answers stay. In each
    draw the probes are trained and the best block is chosen anew.

    Args:
        probe: The labels and folds of all questions.
        vectors: (block, question, dim).
        model_right: (question,) bool.
        clusters: (question,), questions whose vectors move together.
        choosing: Indices of the questions by which the best block is chosen.
        scored: Indices of those that it is scored on.
        seed: The random seed of the permutations.
    """
    labels = np.array(probe.labels)
    n_blocks, n, dim = vectors.shape

    def best(chunk: Array) -> Array:
        """Return the best block's right answers, and those where the model is wrong, (draw, 2)."""
        # One problem a block and order: (block * draw, question, dim).
        problems = vectors[:, chunk].flatten(0, 1)
        starts = range(0, len(problems), AT_ONCE)
        choices = np.concatenate(
            [probe.choices(problems[start : start + AT_ONCE]) for start in starts]
        )
        right = choices.reshape(n_blocks, len(chunk), n) == labels
        # The best block is chosen in each draw as it was for the real order.
        blocks = right[:, :, choosing].sum(axis=-1).argmax(axis=0)
        answers = right[blocks, np.arange(len(chunk))][:, scored]
        gained = answers & ~model_right[scored]
        return np.stack([answers.sum(axis=1), gained.sum(axis=1)], axis=1)

    # The order as it is gives what is tested.
    [(n_right, n_alone)] = best(np.arange(n)[None]).tolist()
    chunks = orders(np.full(n, 2), clusters, n_blocks * n * dim, DRAWS, seed)
    counts = np.concatenate([best(chunk) for chunk in chunks])
    return BestOfBlocks(
        share_as_high(counts[:, 0], n_right),
        share_as_high(counts[:, 1], n_alone),
        counts[:, 1] / len(scored),
    )
