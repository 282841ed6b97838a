"""Intervals of units that share pictures: pictures are resampled, and the truth is covered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvtool.stats.bootstrap import Array, bootstrap, count_clusters, ratio

SAMPLES = 1000


def mean_score(sums: Array) -> dict[str, Array]:
    """The mean of units [value, 1]."""
    return {"mean": ratio(sums[..., 0], sums[..., 1])}


def mean_units(values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], axis=-1)


def coverage(values: Array, truth: float, **resampling: Any) -> float:
    """The share of the intervals of samples (sample, n) that hold the truth."""
    estimate = bootstrap(mean_units(values), mean_score, **resampling)["mean"]
    return float(((estimate.low <= truth) & (truth <= estimate.high)).mean())


def test_a_cluster_is_drawn_whole() -> None:
    values = np.random.default_rng(0).normal(size=7)
    clusters = np.array(["b", "a", "b", "c", "a", "b", "d"])
    estimate = bootstrap(mean_units(values), mean_score, clusters=clusters, draws=200, seed=3)[
        "mean"
    ]
    members = [values[clusters == label] for label in "abcd"]
    picks = np.random.default_rng(3).integers(4, size=(200, 4))
    means = [np.concatenate([members[pick] for pick in draw]).mean() for draw in picks]
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(np.quantile(means, 0.025))
    assert estimate.high == pytest.approx(np.quantile(means, 0.975))
    assert count_clusters(7, clusters) == 4
    assert count_clusters(7, None) == 7


def test_clusters_are_drawn_within_their_stratum() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    clusters, strata = np.array([0, 0, 1, 2, 2]), np.array([5, 5, 5, 7, 7])
    estimate = bootstrap(mean_units(values), mean_score, strata=strata, clusters=clusters)["mean"]
    # The second stratum has one picture, which every resample holds: its share alone varies.
    assert estimate.low == pytest.approx(2 / 6)
    assert estimate.high == pytest.approx(2 / 4)


def test_units_that_are_clusters_of_their_own_are_resampled_as_without() -> None:
    units = mean_units(np.random.default_rng(1).normal(size=(3, 40)))
    without = bootstrap(units, mean_score)["mean"]
    clustered = bootstrap(units, mean_score, clusters=np.arange(40))["mean"]
    np.testing.assert_allclose(clustered.low, without.low)
    np.testing.assert_allclose(clustered.high, without.high)


@pytest.mark.slow
def test_questions_about_one_picture_are_no_independent_draws() -> None:
    """Eighteen questions a picture, as in POPE: over questions the intervals are far too narrow."""
    rng = np.random.default_rng(2)
    pictures = np.repeat(np.arange(100), 18)
    easy = rng.normal(0.0, 0.2, (SAMPLES, 100)).repeat(18, axis=1)
    values = easy + rng.normal(0.0, 0.4, (SAMPLES, 1800))
    assert coverage(values, 0.0) < 0.75
    assert 0.93 <= coverage(values, 0.0, clusters=pictures) <= 0.97


def pairs_of_pictures(categories: int, pictures: int, pairs: int, seed: int) -> Array:
    """(pair, 2) different ordered pairs within categories of pictures."""
    rng = np.random.default_rng(seed)
    sides = [(a, b) for a in range(pictures) for b in range(pictures) if a != b]
    picks = [rng.permutation(len(sides))[:pairs] for _ in range(categories)]
    return np.concatenate(
        [np.array(sides)[rows] + pictures * number for number, rows in enumerate(picks)]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "noise"), [(0.0, 0.0, 0.25), (0.1, 0.1, 0.25), (0.1, 0.3, 0.25)]
)
def test_pairs_are_resampled_by_both_pictures(source: float, target: float, noise: float) -> None:
    """Pairs as SPair's: 18 categories of 25 pictures, which are hard as sources and as targets."""
    rng = np.random.default_rng(3)
    pairs = pairs_of_pictures(18, 25, 250, seed=4)
    category = pairs[:, 0] // 25
    as_source = rng.normal(0.0, source, (SAMPLES, 450))[:, pairs[:, 0]]
    as_target = rng.normal(0.0, target, (SAMPLES, 450))[:, pairs[:, 1]]
    category_means = rng.normal(0.4, 0.3, 18)[category]
    values = category_means + as_source + as_target + rng.normal(0.0, noise, as_source.shape)
    truth = float(category_means.mean())
    by_picture = coverage(values, truth, strata=category, clusters=pairs)
    assert 0.93 <= by_picture <= 0.97
    if source:
        assert coverage(values, truth, strata=category) < 0.85
    if target > source:
        assert coverage(values, truth, strata=category, clusters=pairs[:, 0]) < 0.85


def test_ends_of_pairs_stay_among_the_scores_of_pairs() -> None:
    pairs = pairs_of_pictures(1, 6, 12, seed=5)
    values = np.zeros((1, 12))
    values[:, 0] = 0.02
    estimate = bootstrap(mean_units(values), mean_score, clusters=pairs)["mean"]
    assert 0.0 <= estimate.low[0] <= estimate.value[0] <= estimate.high[0] <= 0.02


def test_a_pair_alone_has_no_width() -> None:
    estimate = bootstrap(
        mean_units(np.array([[0.3]])), mean_score, clusters=np.array([["a", "b"]])
    )["mean"]
    assert estimate.low == estimate.value == estimate.high
