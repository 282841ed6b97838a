"""Metrics against slow, obvious references and at their edges; intervals against closed forms."""

from __future__ import annotations

from math import ceil, hypot
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kvtool.metrics import answers, correspondence, segmentation, video
from kvtool.stats import bootstrap as intervals

Array = np.ndarray[Any, Any]
masks = arrays(bool, (9, 13))


def slow_boundary_accuracy(predicted: Array, truth: Array) -> float:
    """F by definition: pixel by pixel."""

    def boundary(mask: Array) -> set[tuple[int, int]]:
        height, width = mask.shape
        points = set()
        for y in range(height):
            for x in range(width):
                right, below = x + 1 < width, y + 1 < height
                neighbours = (
                    [(y, x + 1)] * right
                    + [(y + 1, x)] * below
                    + [(y + 1, x + 1)] * (right and below)
                )
                if any(mask[y, x] != mask[n] for n in neighbours):
                    points.add((y, x))
        return points

    prediction, true = boundary(predicted), boundary(truth)
    if not prediction or not true:
        return float(len(prediction) == len(true))
    radius = ceil(0.008 * hypot(*truth.shape))

    def share(points: set[tuple[int, int]], targets: set[tuple[int, int]]) -> float:
        return sum(any(hypot(y - v, x - u) <= radius for v, u in targets) for y, x in points) / len(
            points
        )

    precision, recall = share(prediction, true), share(true, prediction)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=40, deadline=None)
@given(masks, masks)
def test_boundary_accuracy_is_the_definition(predicted: Array, truth: Array) -> None:
    assert video.boundary_accuracy(predicted, truth) == pytest.approx(
        slow_boundary_accuracy(predicted, truth)
    )


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (2, 3, 5, 4)), arrays(bool, (5, 4)), arrays(bool, (5, 4)))
def test_binary_counts_is_the_definition(predicted: Array, truth: Array, keep: Array) -> None:
    intersection, union = segmentation.binary_counts(predicted, truth, keep)
    for index in np.ndindex(2, 3):
        for side, value in enumerate((False, True)):
            prediction, true = (predicted[index] == value) & keep, (truth == value) & keep
            assert intersection[index][side] == (prediction & true).sum()
            assert union[index][side] == (prediction | true).sum()


def test_masks_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        segmentation.binary_counts(np.zeros((4, 5), bool), np.zeros((5, 4), bool))
    with pytest.raises(ValueError, match="differ in size"):
        segmentation.class_counts(np.zeros((4, 5), int), np.zeros((5, 4), int), 3, 255)


def test_class_ids_out_of_range() -> None:
    truth, prediction = np.array([[0, 1, 2, 255]]), np.array([[0, 7, -1, 1]])
    assert segmentation.class_counts(prediction, truth, 3, 255).tolist() == [
        [1, 0, 0],
        [1, 0, 0],
        [1, 1, 1],
    ]
    with pytest.raises(ValueError, match="holds id 7"):
        segmentation.class_counts(truth, prediction, 3, -1)


def test_empty_unions_are_defined() -> None:
    nothing = np.zeros((1, 6, 6), bool)
    intersection, union = segmentation.binary_counts(nothing, nothing[0])
    units = segmentation.foreground_units(intersection, union)
    assert segmentation.refcoco_scores(units.sum(axis=0))["miou_fg"] == 0.0
    assert segmentation.j_scores(units.sum(axis=0))["j_mean"] == 1.0
    assert segmentation.fgbg_scores(units.sum(axis=0))["miou_fgbg_image"] == 1.0
    episode = segmentation.fewshot_units(intersection, union, np.array([0]), 5)
    scores = segmentation.fewshot_scores(episode.sum(axis=0))
    assert scores["miou"] == 0.0
    assert np.isnan(scores["miou_episode"])


def test_threshold_ties_count_as_correct() -> None:
    """0.15 * 150 is 22.5 on paper and a little less in binary arithmetic."""
    target = np.zeros(2)
    on_it, beyond = np.array([22.5, 0.0]), np.array([22.5 + 2**-20, 0.0])
    assert correspondence.correct_keypoints(on_it, target, 150.0)[2]
    assert not correspondence.correct_keypoints(beyond, target, 150.0)[2]
    assert correspondence.correct_keypoints(np.array([0.3, 0.4]), target, 10.0, [0.05])[0]


def test_pope_without_a_predicted_yes() -> None:
    scores = answers.pope_scores(
        answers.pope_units(np.zeros(4, bool), np.array([1, 0, 1, 0], bool)).sum(axis=0)
    )
    assert {name: float(value) for name, value in scores.items()} == {
        "accuracy": 0.5,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "yes_ratio": 0.0,
    }


def test_decay_of_a_short_sequence() -> None:
    statistics = video.object_statistics(np.array([0.9, 0.8, 0.2, 0.1]))
    assert statistics["mean"] == pytest.approx(0.5)
    assert statistics["recall"] == pytest.approx(0.5)
    assert statistics["decay"] == pytest.approx(0.85 - 0.15)


def mean_score(sums: Array) -> dict[str, Array]:
    return {"mean": intervals.ratio(sums[..., 0], sums[..., 1])}


def mean_units(values: Array) -> Array:
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_bootstrap_of_a_mean_is_its_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=(3, 400))
    estimate = intervals.bootstrap(mean_units(values), mean_score, draws=4000)["mean"]
    half = 1.96 * values.std(axis=1) / 20
    np.testing.assert_allclose(estimate.value, values.mean(axis=1))
    np.testing.assert_allclose(estimate.low, values.mean(axis=1) - half, atol=0.03)
    np.testing.assert_allclose(estimate.high, values.mean(axis=1) + half, atol=0.03)


def test_bootstrap_is_the_loop_over_resamples() -> None:
    values = np.random.default_rng(2).normal(size=(2, 30))
    estimate = intervals.bootstrap(mean_units(values), mean_score, draws=200, seed=5)["mean"]
    picks = np.random.default_rng(5).integers(30, size=(200, 30))
    means = np.array([[v[p].mean() for p in picks] for v in values])
    np.testing.assert_allclose(estimate.low, np.quantile(means, 0.025, axis=1))
    np.testing.assert_allclose(estimate.high, np.quantile(means, 0.975, axis=1))


def test_bootstrap_covers_the_truth() -> None:
    """Of 300 samples of 60, about 95 % of the intervals hold the true mean 0.3."""
    draws = np.random.default_rng(3).random((300, 60)) < 0.3
    estimate = intervals.bootstrap(mean_units(draws.astype(float)), mean_score)["mean"]
    covered = ((estimate.low <= 0.3) & (estimate.high >= 0.3)).mean()
    assert 0.9 <= covered <= 0.99


def test_strata_keep_every_class() -> None:
    strata = np.array([0] * 20 + [1])
    weights = intervals.resample_weights(21, 50, np.random.default_rng(0), strata)
    assert (weights.sum(axis=1) == 21).all()
    assert (weights[:, 20] == 1).all()


def test_undefined_resamples_are_left_out() -> None:
    units = np.array([[[0.0, 0.0], [0.6, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    estimate = intervals.bootstrap(units, mean_score)["mean"]
    assert (estimate.value[0], estimate.low[0], estimate.high[0]) == (0.6, 0.6, 0.6)
    assert np.isnan([estimate.value[1], estimate.low[1], estimate.high[1]]).all()


@given(st.text(max_size=12))
def test_answer_parsers_take_any_text(text: str) -> None:
    assert answers.parse_pope(text) in ("yes", "no")
    assert answers.parse_mme(text) in ("yes", "no", "other")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("NO.", "no"),
        ("  no", "no"),
        ("   yes", "other"),
        ("I know", "other"),
        ("not", "no"),
    ],
)
def test_mme_reads_four_characters(answer: str, expected: str) -> None:
    assert answers.parse_mme(answer) == expected
