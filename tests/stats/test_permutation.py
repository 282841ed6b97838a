"""Tests by permutation: against slow loops, on planted truths, and on nothing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from kvtool.stats import permutation
from kvtool.stats.bootstrap import Array
from kvtool.stats.permutation import flipped_best, permuted_best, swapped

N = 40


def guessing(rng: np.random.Generator, n_blocks: int, n_choices: int) -> tuple[Array, ...]:
    labels = rng.integers(n_choices, size=N)
    choices = rng.integers(n_choices, size=(n_blocks, N))
    return choices, labels, rng.random(N) < 0.5, np.full(N, n_choices)


def test_the_products_count_what_a_loop_counts() -> None:
    rng = np.random.default_rng(0)
    choices, labels, model_right, n_choices = guessing(rng, 5, 3)
    choices[1, ::7] = -1
    orders = np.stack([rng.permutation(N) for _ in range(20)])
    answers = (choices[:, :, None] == np.arange(3)).reshape(5, -1).astype(np.float32)
    right_counts, alone_counts = permutation._best(answers, orders, labels, model_right, 3)
    for order, right_count, alone_count in zip(orders, right_counts, alone_counts, strict=True):
        right = choices == labels[order]
        best = max(range(5), key=lambda block: right[block].sum())
        assert right_count == right[best].sum()
        assert alone_count == (right[best] & ~model_right[order]).sum()
    assert n_choices.tolist() == [3] * N


def test_questions_move_among_those_with_as_many_choices() -> None:
    strata = np.array([2, 3, 2, 3, 3, 2])
    for orders in permutation.orders(strata, None, 100, 1999, 0):
        assert (strata[orders] == strata).all()
        assert (np.sort(orders, axis=1) == np.arange(6)).all()


def test_clusters_move_whole_to_clusters_alike() -> None:
    """Two pictures of two questions, one of three, two alone; one has questions of 2 and 3."""
    clusters = np.array([0, 1, 0, 2, 1, 2, 2, 3, 4, 5, 5, 6, 6])
    strata = np.array([2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 2])
    orders = np.concatenate([*permutation.orders(strata, clusters, 100, 1999, 0)])
    assert (strata[orders] == strata).all()
    assert (np.sort(orders, axis=1) == np.arange(13)).all()
    # A cluster's places are taken by one cluster's questions, and by as many of them.
    for members in ([0, 2], [1, 4], [3, 5, 6], [9, 10], [11, 12]):
        sources = clusters[orders[:, members]]
        assert (sources == sources[:, :1]).all()
    assert (orders[:, [3, 5, 6]] == [3, 5, 6]).all()
    assert {tuple(row) for row in orders[:, [0, 2]].tolist()} == {(0, 2), (1, 4)}
    assert set(orders[:, 7].tolist()) == {7, 8}


def test_questions_alone_are_permuted_as_they_were_without_clusters() -> None:
    rng = np.random.default_rng(5)
    choices, labels, model_right, n_choices = guessing(rng, 6, 3)
    order = rng.permutation(N)
    plain = permuted_best(choices, labels, model_right, n_choices)
    clustered = permuted_best(choices, labels, model_right, n_choices, clusters=np.arange(N))
    assert plain[:2] == clustered[:2]
    right = choices == labels
    flipped = flipped_best(right, model_right, clusters=order)
    assert flipped == pytest.approx(flipped_best(right, model_right), abs=0.05)


@pytest.mark.parametrize("by_picture", [True, False])
@pytest.mark.slow
def test_what_a_picture_makes_of_all_its_questions_is_no_evidence_several_times(
    by_picture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty pictures of six questions, of one answer a picture; six blocks and a model give one
    choice a picture and know nothing. Of 300 such studies some 5 % are sure by picture, and far
    more question by question.
    """
    monkeypatch.setattr(permutation, "DRAWS", 199)
    clusters = np.repeat(np.arange(20), 6)
    sure = np.zeros(2)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = rng.integers(2, size=20)[clusters]
        choices = rng.integers(2, size=(6, 20))[:, clusters]
        model_right = rng.integers(2, size=20)[clusters] == labels
        shared = clusters if by_picture else None
        null = permuted_best(
            choices, labels, model_right, np.full(120, 2), clusters=shared, seed=seed
        )
        better = flipped_best(choices == labels, model_right, clusters=shared, seed=seed)
        sure += np.array([null.right_p, better]) < 0.05
    rates = sure / 300
    if by_picture:
        assert (rates <= 0.08).all()
    else:
        assert (rates > 0.2).all()


def test_one_planted_block_is_told_from_guessing() -> None:
    rng = np.random.default_rng(1)
    choices, labels, model_right, n_choices = guessing(rng, 30, 2)
    choices[4] = np.where(rng.random(N) < 0.95, labels, 1 - labels)
    null = permuted_best(choices, labels, model_right, n_choices)
    assert null.right_p == pytest.approx(1 / (1 + permutation.DRAWS))
    assert null.value_only_p < 0.02


def test_a_preferred_letter_is_no_knowledge() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(N) < 0.2).astype(int)
    always_first = np.zeros((3, N), int)
    null = permuted_best(always_first, labels, rng.random(N) < 0.5, np.full(N, 2))
    assert (labels == 0).mean() > 0.7
    assert null.right_p == 1.0


def test_the_flips_of_one_block_are_the_sign_test() -> None:
    model_right = np.arange(20) < 8
    right = ((np.arange(20) < 5) | (np.arange(20) >= 9))[None]
    gained, lost = 11, 3
    exact = binomtest(gained, gained + lost, alternative="greater").pvalue
    assert flipped_best(right, model_right) == pytest.approx(exact, abs=0.012)


def test_swaps_are_all_swaps() -> None:
    rng = np.random.default_rng(3)
    first_units, second_units = rng.integers(0, 5, (2, 8, 2)).astype(float) + 1.0

    def ratio(sums: Array) -> dict[str, Array]:
        return {"ratio": sums[..., 0] / sums[..., 1]}

    def difference(swaps: tuple[int, ...]) -> float:
        swapped_units = np.array(swaps, bool)[:, None]
        first = np.where(swapped_units, second_units, first_units).sum(axis=0)
        second = np.where(swapped_units, first_units, second_units).sum(axis=0)
        return abs(float(first[0] / first[1] - second[0] / second[1]))

    observed = difference((0,) * 8)
    exact = np.mean([difference(swaps) >= observed - 1e-9 for swaps in product((0, 1), repeat=8)])
    assert swapped(first_units, second_units, ratio, "ratio") == pytest.approx(exact, abs=0.04)
    assert swapped(first_units, first_units, ratio, "ratio") == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("n_choices", [2, 4])
def test_of_nothing_five_percent_are_sure(n_choices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 studies of 112 blocks that guess, as in the long simulation of tests/bench."""
    monkeypatch.setattr(permutation, "DRAWS", 299)
    rng = np.random.default_rng(n_choices)
    sure = np.zeros(3)
    for seed in range(300):
        choices, labels, _, counts = guessing(rng, 112, n_choices)
        model_right = rng.random(N) < 1 / n_choices
        null = permuted_best(choices, labels, model_right, counts, seed=seed)
        better = flipped_best(choices == labels, model_right, seed=seed)
        sure += np.array([null.right_p, null.value_only_p, better]) < 0.05
    # Four standard errors of 5 % of 300 draws, and less where few counts are possible.
    assert (sure / 300 < 0.10).all(), sure
    assert (sure / 300 > 0.005).all(), sure
