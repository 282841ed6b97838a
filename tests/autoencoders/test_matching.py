"""Matching of images and captions by features: slow references, planted truths, nulls."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.autoencoders.matching import (
    Retrieval,
    eligible_features,
    match_rate,
    pool_tokens,
    retrieval,
    top_features,
)
from kvtool.stats.bootstrap import Array

STUDIES = 300


def test_pooling_is_the_mean_of_the_largest_three() -> None:
    features = torch.relu(torch.randn(9, 5, generator=torch.Generator().manual_seed(0)))
    expected = [sum(sorted(features[:, j].tolist())[-3:]) / 3 for j in range(5)]
    assert np.allclose(pool_tokens(features), expected)
    assert np.allclose(pool_tokens(features, top=1), features.max(dim=0).values)
    # Two tokens alone: the third counts as nothing.
    assert np.allclose(pool_tokens(features[:2]), features[:2].sum(dim=0) / 3)
    assert pool_tokens(features[:0]).tolist() == [0.0] * 5
    assert pool_tokens(features.bfloat16()).dtype == np.float32


def test_features_that_fire_everywhere_are_left_out() -> None:
    n = 100
    presence = np.zeros((n, 6), bool)
    presence[:5, 0] = True  # 5 %: allowed
    presence[:6, 1] = True  # dense in images
    presence[:3, 3] = presence[:3, 4] = presence[:3, 5] = True
    texts = np.zeros((n, 6), bool)
    texts[:50, 0] = texts[:6, 3] = texts[:2, 2] = True
    density = np.array([0.0, 0.0, 0.0, 0.0, 0.006, np.nan])
    # Feature 0 is dense in texts, 1 in images, 3 in texts, 4 on text tokens; 2 fires in texts only.
    expected: dict[Any, list[bool]] = {
        "both": [False, False, True, False, False, True],
        "image": [True, False, False, True, False, True],
        "text": [False, False, True, False, False, False],
    }
    for side, eligible in expected.items():
        features = eligible_features(presence, texts, density, presence_of=side)
        assert features.tolist() == eligible
    assert eligible_features(presence, texts, None)[4]
    assert eligible_features(presence, texts, None, max_presence=1.0).all()


def test_strongest_eligible_features_of_each_image() -> None:
    pooled = np.array([[5.0, 4, 3, 2, 1], [0, 0, 0, 7, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    eligible = np.array([False, True, True, True, True])
    assert top_features(pooled, eligible).tolist() == [
        [1, 2, 3],
        [3, -1, -1],
        [1, 2, 3],
        [-1, -1, -1],
    ]
    assert (top_features(pooled, np.zeros(5, bool)) == -1).all()


def activations(rng: np.random.Generator, n: int, m: int, share: float = 0.2) -> Array:
    return np.where(rng.random((n, m)) < share, rng.exponential(size=(n, m)), 0.0)


def slow_ranks(images: Array, captions: Array) -> list[float]:
    """The rank of each own caption by cosines of weighted vectors, one pair at a time."""
    n, m = captions.shape
    weights = []
    for j in range(m):
        frequency = sum(captions[i, j] > 0 for i in range(n))
        weights.append(np.log(n / frequency) if 0 < frequency <= n / 2 else 0.0)

    def cosine(first: Array, second: Array) -> float:
        a, b = (np.log(1 + vector) * weights for vector in (first, second))
        lengths = float(np.sqrt((a * a).sum() * (b * b).sum()))
        return float((a * b).sum()) / lengths if lengths else 0.0

    ranks = []
    for i in range(n):
        scores = [round(cosine(images[i], captions[j]), 9) for j in range(n)]
        above = sum(score > scores[i] for score in scores)
        ties = sum(score == scores[i] for score in scores) - 1
        ranks.append(1 + above + ties / 2)
    return ranks


def test_retrieval_equals_a_slow_reference() -> None:
    rng = np.random.default_rng(3)
    captions = activations(rng, 17, 23)
    images = captions * (rng.random(captions.shape) < 0.5) + activations(rng, 17, 23, 0.1)
    images[4] = 0  # an image without a feature ties with all
    ranks = np.array(slow_ranks(images, captions))
    scores = retrieval(images, captions)
    assert scores.recall_1 == pytest.approx((ranks <= 1).mean())
    assert scores.recall_5 == pytest.approx((ranks <= 5).mean())
    assert scores.recall_10 == pytest.approx((ranks <= 10).mean())
    assert scores.median_rank == pytest.approx(np.median(ranks))
    assert scores.mrr == pytest.approx((1 / ranks).mean())
    assert ranks[4] == 9.0
    for name in ("recall_1", "recall_5", "recall_10", "mrr"):
        value = getattr(scores, name)
        assert scores.low[name] <= value <= scores.high[name]


@pytest.mark.slow
def test_chance_of_retrieval_is_that_of_all_permutations() -> None:
    rng = np.random.default_rng(0)
    images, captions = activations(rng, 5, 9), activations(rng, 5, 9)
    permuted = [
        retrieval(images, captions[list(order)], draws=2) for order in permutations(range(5))
    ]
    chance = permuted[0].chance
    for name in ("recall_1", "recall_5", "mrr"):
        assert chance[name] == pytest.approx(np.mean([getattr(s, name) for s in permuted]))


def test_planted_captions_are_retrieved_whatever_the_scale_of_features() -> None:
    rng = np.random.default_rng(1)
    captions = activations(rng, 40, 60)
    scores = retrieval(captions, captions)
    assert (scores.recall_1, scores.median_rank, scores.mrr) == (1.0, 1.0, 1.0)
    assert scores.low["recall_1"] < 1.0  # 40 of 40 is not every image there is
    assert scores.chance["recall_1"] == pytest.approx(1 / 40)
    assert scores.chance["recall_10"] == pytest.approx(10 / 40)


def test_features_of_most_captions_do_not_count() -> None:
    """A feature that fires everywhere, however strongly, changes nothing."""
    rng = np.random.default_rng(2)
    captions = activations(rng, 20, 30)
    loud = np.full((20, 1), 1e6)
    images = captions + 0.1
    with_loud = retrieval(np.hstack([images, loud]), np.hstack([captions, loud]))
    assert with_loud == retrieval(images, captions)


@pytest.mark.slow
def test_retrieval_of_unrelated_captions_is_at_chance() -> None:
    rng = np.random.default_rng(4)
    differences = []
    for _ in range(STUDIES):
        scores = retrieval(activations(rng, 12, 20), activations(rng, 12, 20), draws=2)
        differences.append([getattr(scores, name) - scores.chance[name] for name in scores.chance])
    means = np.mean(differences, axis=0)
    errors = np.std(differences, axis=0) / np.sqrt(STUDIES)
    assert (np.abs(means) < 4 * errors).all()


def test_retrieval_and_match_of_nothing_are_undefined() -> None:
    nothing = np.zeros((0, 4))
    scores: Retrieval = retrieval(nothing, nothing)
    assert np.isnan([scores.recall_1, scores.median_rank, scores.mrr]).all()
    match = match_rate(np.zeros((0, 3), int), np.zeros((0, 4), bool))
    assert np.isnan([match.rate, match.chance, match.lift]).all()
    single = match_rate(np.array([[0, -1, -1]]), np.ones((1, 4), bool))
    assert single.rate == 1.0
    assert np.isnan([single.chance, single.lift]).all()


def scene(rng: np.random.Generator, n: int, m: int) -> tuple[Array, Array]:
    """Images' features and captions that have nothing to do with each other; both favor some
    features, and captions differ in length.
    """
    weights = rng.dirichlet(np.ones(m))
    top = np.stack([rng.choice(m, size=3, replace=False, p=weights) for _ in range(n)])
    presence = rng.random((n, m)) < np.outer(rng.random(n), rng.random(m))
    return top, presence


def test_match_equals_a_slow_reference() -> None:
    rng = np.random.default_rng(5)
    top, presence = scene(rng, 11, 20)
    top[2] = [4, -1, -1]
    top[3] = -1
    hits = [[any(presence[j, f] for f in top[i] if f >= 0) for j in range(11)] for i in range(11)]
    match = match_rate(top, presence)
    assert match.rate == pytest.approx(np.mean([hits[i][i] for i in range(11)]))
    pairs = [hits[i][j] for i, j in permutations(range(11), 2)]
    assert match.chance == pytest.approx(np.mean(pairs))
    assert match.lift == pytest.approx(match.rate - match.chance)
    assert match.low <= match.rate <= match.high
    assert match.lift_low <= match.lift <= match.lift_high


def test_chance_of_a_match_is_that_of_permutations_without_a_fixed_point() -> None:
    top, presence = scene(np.random.default_rng(6), 5, 8)
    orders = [order for order in permutations(range(5)) if all(i != j for i, j in enumerate(order))]
    rates = [match_rate(top, presence[list(order)], draws=2).rate for order in orders]
    assert match_rate(top, presence).chance == pytest.approx(np.mean(rates))


def test_a_planted_match_is_found() -> None:
    rng = np.random.default_rng(7)
    top, presence = scene(rng, 200, 400)
    planted = np.arange(200) < 120
    presence[np.flatnonzero(planted), top[planted, 1]] = True
    match = match_rate(top, presence)
    assert match.rate >= 0.6
    assert match.lift_low > 0.2
    assert match.low < match.rate < match.high


@pytest.mark.slow
def test_captions_that_are_permuted_have_no_lift_and_their_interval_covers_it() -> None:
    """Of studies without any link the mean lift is 0, and 95 % of intervals hold 0."""
    rng = np.random.default_rng(8)
    lifts = []
    covered = 0
    for seed in range(STUDIES):
        top, presence = scene(rng, 40, 30)
        match = match_rate(top, presence[rng.permutation(40)], seed=seed, draws=400)
        lifts.append(match.lift)
        covered += match.lift_low <= 0 <= match.lift_high
    assert abs(np.mean(lifts)) < 4 * np.std(lifts) / np.sqrt(STUDIES)
    assert 0.91 <= covered / STUDIES <= 0.985


@pytest.mark.slow
def test_intervals_of_the_rate_hold_the_rate() -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for seed in range(STUDIES):
        presence = (rng.random(60) < 0.3)[:, None]
        match = match_rate(np.zeros((60, 1), int), presence, seed=seed, draws=400)
        covered += match.low <= 0.3 <= match.high
    assert 0.91 <= covered / STUDIES <= 0.985
