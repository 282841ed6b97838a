"""Tests by permutation: is the best of many more than chance, do two conditions differ?

Every p counts the case at hand among the permuted ones, so that it is never 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import pooled
from kvtool.stats.resampling import AT_ONCE, Array, Scores

DRAWS = 1999
TIE = 1e-9
"""Statistics that differ by less count as equal, or rounding would decide."""


class BestOfBlocks(NamedTuple):
    """What permuted questions say of the best of several blocks.

    Attributes:
        right_p: How often the best of blocks that know nothing has as many answers right.
        value_only_p: How often it has as many right where the model is wrong.
        value_only: Shares of questions that the best block has right and the model wrong, (draw,).
    """

    right_p: float
    value_only_p: float
    value_only: Array


def permuted_best(
    choices: Array,
    labels: Array,
    model_right: Array,
    n_choices: Array,
    *,
    clusters: Array | None = None,
    seed: int = 0,
) -> BestOfBlocks:
    """Test the best block against blocks that know nothing of the questions.

    Where the values know nothing, their choices belong to any question as well as to their own: the
    questions (label and the model's answer together) are permuted among those with as many choices.
    All blocks see the same permutation, so that what they have in common, and their preferences for
    some letters, remain. In each draw the best block is chosen anew. Questions of a cluster move
    together, to the place of another cluster of as many questions with as many choices: what one
    picture makes of all its questions is then no evidence several times over.

    Args:
        choices: (block, question) indices of choices; negative ones are never right.
        labels: (question,), the right choices.
        model_right: (question,) bool.
        n_choices: (question,), the number of choices.
        clusters: (question,), labels of what questions share, such as their picture.
        seed: The random seed of the permutations.
    """
    n_blocks, n = choices.shape
    width = int(n_choices.max())
    # One column a question and choice: the right answers of a block are then a matrix product.
    answers = (choices[:, :, None] == np.arange(width)).reshape(n_blocks, -1).astype(np.float32)
    # The order as it is gives the statistics of the case at hand.
    observed = _best(answers, np.arange(n)[None], labels, model_right, width)
    best_right = []
    gains = []
    for order in orders(n_choices, clusters, n_blocks + width * n, DRAWS, seed):
        right_counts, alone_counts = _best(answers, order, labels, model_right, width)
        best_right.append(right_counts)
        gains.append(alone_counts)
    return BestOfBlocks(
        # The best of blocks against the best of blocks: the choice of a block is paid for.
        share_as_high(np.concatenate(best_right), observed[0][0]),
        share_as_high(np.concatenate(gains), observed[1][0]),
        np.concatenate(gains) / n,
    )


def orders(
    strata: Array, clusters: Array | None, per_draw: int, draws: int, seed: int
) -> Iterator[Array]:
    """Yield orders of questions within strata, (draw, question), as many at once as fit.

    Clusters move whole, see permuted_best.
    """
    n = len(strata)
    rng = np.random.default_rng(seed)
    # A draw costs `per_draw` numbers in memory.
    chunk = max(1, min(draws, 4 * AT_ONCE // per_draw))
    # Only questions of as many choices, or pictures of as many such, may change places.
    groups = _alike(strata, np.arange(n) if clusters is None else clusters)
    for first in range(0, draws, chunk):
        count = min(chunk, draws - first)
        order = np.empty((count, n), np.int64)
        for questions in groups:
            # A permutation of its own for each draw: places within the group, then questions.
            moved = rng.permuted(np.tile(np.arange(len(questions)), (count, 1)), axis=1)
            order[:, questions.ravel()] = questions[moved].reshape(count, -1)
        yield order


def _alike(strata: Array, clusters: Array) -> list[Array]:
    """Return the questions (cluster, question) of clusters that can take each other's place."""
    # Questions of one cluster in a row, cut where the label changes.
    by_cluster = np.argsort(clusters, kind="stable")
    ends = np.flatnonzero(np.diff(clusters[by_cluster])) + 1
    groups: dict[tuple[int, ...], list[Array]] = {}
    for members in np.split(by_cluster, ends):
        # Within a cluster questions of as many choices take each other's place.
        questions = members[np.argsort(strata[members], kind="stable")]
        # Clusters are alike that have as many questions of each stratum.
        groups.setdefault(tuple(strata[questions].tolist()), []).append(questions)
    return [np.array(groups[shape]) for shape in sorted(groups)]


def _best(
    answers: Array, order: Array, labels: Array, model_right: Array, width: int
) -> tuple[Array, Array]:
    """Return the best block's right answers, and those where the model is wrong, (draw,) each."""
    # One-hot as the answers are, so that the product counts the questions where both agree.
    truth = (labels[order][:, :, None] == np.arange(width)).astype(np.float32)
    wrong = truth * ~model_right[order][:, :, None]
    right_counts = truth.reshape(len(order), -1) @ answers.T
    alone_counts = wrong.reshape(len(order), -1) @ answers.T
    # The best block of each draw, and where its right answers leave the model behind.
    best = right_counts.argmax(axis=1)
    rows = np.arange(len(order))
    return right_counts[rows, best], alone_counts[rows, best]


def share_as_high(permuted: Array, observed: float) -> float:
    """Return the p of a statistic: how often it is as high as observed, with this case counted."""
    return float((1 + (permuted >= observed - TIE).sum()) / (1 + len(permuted)))


def flipped_best(
    right: Array, model_right: Array, *, clusters: Array | None = None, seed: int = 0
) -> float:
    """Test whether some block answers more questions right than the model; return p, one-sided.

    Where values and model are as good as each other, a question that one of them alone has right
    may as well be the other's: the signs of the differences are flipped question by question, the
    same for all blocks, and the best block is chosen anew (Westfall and Young 1993). Of one block
    it is the one-sided sign test, which McNemar's is two-sided. Questions of a cluster are flipped
    together.

    Args:
        right: (block, question) bool.
        model_right: (question,) bool.
        clusters: (question,), labels of what questions share, such as their picture.
        seed: The random seed of the flips.
    """
    # (question, block): 1 where the block alone is right, -1 where the model alone is.
    differences = (right.astype(np.float32) - model_right.astype(np.float32)).T
    if clusters is not None:
        # With a draw for each picture, all that is asked about it counts once.
        differences = pooled(differences, None, clusters)[0].astype(np.float32)
    # The best block by its surplus over the model.
    observed = float(differences.sum(axis=0).max())
    rng = np.random.default_rng(seed)
    # The same signs for all blocks: what they have in common stays.
    signs = rng.choice(np.array([-1, 1], np.float32), size=(DRAWS, len(differences)))
    return share_as_high((signs @ differences).max(axis=1), observed)


def swapped(
    first_units: Array, second_units: Array, scores: Scores, metric: str, *, seed: int = 0
) -> float:
    """Test whether two conditions score differently over the same units; return p, two-sided.

    Where they do not differ, each unit's numbers may as well be the other condition's: they are
    swapped unit by unit at random. NaN where the difference of the scores is not defined.

    Args:
        first_units: (n, k), numbers of n units that add up, under one condition.
        second_units: (n, k), under the other.
        scores: Turns sums over units (..., k) into named scores (...).
        metric: The score to compare.
        seed: The random seed of the swaps.
    """
    first, second = (units.sum(axis=0, dtype=np.float64) for units in (first_units, second_units))
    observed = float(scores(first)[metric] - scores(second)[metric])
    if np.isnan(observed):
        return observed
    rng = np.random.default_rng(seed)
    # What a swap of a unit adds to one sum and takes from the other.
    change = (second_units - first_units).astype(np.float64)
    differences = []
    chunk = max(1, min(DRAWS, AT_ONCE // len(change)))
    for start in range(0, DRAWS, chunk):
        # A swapped unit takes its numbers from the first sum to the second, and the reverse.
        swaps = rng.integers(2, size=(min(chunk, DRAWS - start), len(change)))
        moved = swaps.astype(np.float64) @ change
        differences.append(np.abs(scores(first + moved)[metric] - scores(second - moved)[metric]))
    permuted = np.concatenate(differences)
    # Draws without a defined score say nothing of the difference.
    return share_as_high(permuted[~np.isnan(permuted)], abs(observed))
