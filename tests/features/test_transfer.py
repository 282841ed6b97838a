"""Transfer: planted words are found in patches, and what knows nothing finds them by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kvtool.features.transfer import (
    auroc,
    choose_features,
    permuted_auroc,
    transfer,
    word_directions,
)

N_IMAGES = 60
N_PATCHES = 30


def test_area_equals_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    is_positive = rng.random(200) < 0.2
    scores = rng.integers(0, 5, (200, 7)).astype(float)
    scores[:, 3] = 0
    expected = [roc_auc_score(is_positive, column) for column in scores.T]
    np.testing.assert_allclose(auroc(scores, is_positive), expected, atol=1e-12)
    assert auroc(scores, is_positive)[3] == 0.5
    assert np.isnan(auroc(scores, np.zeros(200, bool))).all()


def test_the_feature_that_fires_at_the_word_is_chosen() -> None:
    rng = np.random.default_rng(1)
    features = np.where(rng.random((400, 50)) < 0.1, rng.random((400, 50)), 0)
    labels = {name: np.zeros(400, bool) for name in ("cat", "dog", "absent")}
    labels["cat"][::20] = True
    labels["dog"][7::20] = True
    features[labels["cat"], 11] = 2
    features[labels["dog"], 30] = 2
    choices = choose_features(features, labels)
    assert {name: choice.feature for name, choice in choices.items()} == {"cat": 11, "dog": 30}
    assert choices["cat"].auroc == pytest.approx(1, abs=1e-3)
    # A word at which nothing fires has no feature.
    features[labels["dog"]] = 0
    assert set(choose_features(features, labels)) == {"cat"}


def scene(rng: np.random.Generator, strength: float) -> tuple[Any, Any, Any]:
    """Scores and labels of three concepts over patches; `strength` is what showing one adds."""
    images = np.repeat(np.arange(N_IMAGES), N_PATCHES)
    labels = {}
    scores = {}
    for concept in ("cat", "dog", "ball"):
        labels[concept] = (rng.random(len(images)) < 0.15).astype(np.int8)
        scores[concept] = rng.standard_normal(len(images)) + strength * labels[concept]
    return scores, labels, images


def test_transfer_is_the_mean_area_over_concepts() -> None:
    scores, labels, images = scene(np.random.default_rng(2), 1.0)
    result = transfer(scores, labels, images)
    expected = {name: roc_auc_score(labels[name], scores[name]) for name in scores}
    assert result.by_concept == pytest.approx(expected)
    assert result.value == pytest.approx(np.mean(list(expected.values())))
    assert result.low < result.value < result.high


def test_ties_count_half_as_features_that_rarely_fire_have_many() -> None:
    scores, labels, images = scene(np.random.default_rng(8), 1.0)
    sparse = {name: np.maximum(values - 1.5, 0).round(1) for name, values in scores.items()}
    expected = {name: roc_auc_score(labels[name], sparse[name]) for name in sparse}
    assert transfer(sparse, labels, images).by_concept == pytest.approx(expected)
    silent = {name: np.zeros_like(values) for name, values in scores.items()}
    result = transfer(silent, labels, images)
    assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)


def test_patches_that_are_unsure_and_concepts_without_patches_do_not_count() -> None:
    scores, labels, images = scene(np.random.default_rng(3), 1.0)
    unsure = np.random.default_rng(4).random(len(images)) < 0.3
    labels["cat"][unsure] = -1
    labels["dog"][:] = 0
    result = transfer(scores, labels, images)
    assert set(result.by_concept) == {"cat", "ball"}
    is_sure = ~unsure
    expected = roc_auc_score(labels["cat"][is_sure], scores["cat"][is_sure])
    assert result.by_concept["cat"] == pytest.approx(expected)
    nothing = transfer(scores, dict.fromkeys(labels, np.zeros(len(images), np.int8)), images)
    assert np.isnan(nothing.value)


def test_many_images_are_resampled_in_groups() -> None:
    rng = np.random.default_rng(5)
    images = np.arange(2000)
    labels = {"cat": (rng.random(2000) < 0.2).astype(np.int8)}
    scores = {"cat": rng.standard_normal(2000) + labels["cat"]}
    result = transfer(scores, labels, images)
    assert result.value == pytest.approx(roc_auc_score(labels["cat"], scores["cat"]))
    assert 0.01 < result.high - result.low < 0.1


@pytest.mark.slow
def test_intervals_of_scores_that_know_nothing_hold_one_half() -> None:
    """Patches of an image share their score's level, so that images must be resampled."""
    n_draws = 400
    covered = 0
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        images = np.repeat(np.arange(80), 12)
        labels = {f"c{i}": (rng.random(960) < 0.3).astype(np.int8) for i in range(12)}
        level = rng.standard_normal(80)[images]
        scores = {name: rng.standard_normal(960) + level for name in labels}
        result = transfer(scores, labels, images, seed=draw, draws=300)
        covered += result.low <= 0.5 <= result.high
    assert 0.92 <= covered / n_draws <= 0.98


def test_word_directions_tell_words_of_a_kind_apart() -> None:
    rng = np.random.default_rng(6)
    centers = rng.standard_normal((3, 16)) * 3
    words = rng.integers(0, 4, 600)
    states = rng.standard_normal((600, 16))
    # One channel varies a hundredfold and says nothing: its variance takes its weight away.
    states[:, 0] *= 100
    for word in range(3):
        states[words == word] += centers[word]
    names = ("cat", "dog", "ball")
    labels = {name: words == index for index, name in enumerate(names)}
    directions = word_directions(states, labels | {"absent": np.zeros(600, bool)})
    assert set(directions) == set(names)
    for name, is_word in labels.items():
        among = words < 3
        scores = (states @ directions[name])[among]
        assert roc_auc_score(is_word[among], scores) > 0.97
    assert word_directions(states, {"cat": labels["cat"]}) == {}


def test_permuted_labels_tell_specific_scores_from_those_of_any_thing() -> None:
    rng = np.random.default_rng(7)
    n, names = 4000, 6
    things = rng.integers(0, names + 4, n)
    labels = (things[:, None] == np.arange(names)).astype(np.int8)
    specific = labels + 0.1 * rng.standard_normal((n, names))
    assert permuted_auroc(specific, labels) == pytest.approx(0.5, abs=0.03)
    anything = (things < names)[:, None] + 0.1 * rng.standard_normal((n, names))
    # Of the eight kinds of patches beside a concept's own and a stranger's, four are things too.
    assert permuted_auroc(anything, labels) == pytest.approx(0.75, abs=0.03)
    # Patches where nothing is sure do not count; a single concept has no stranger.
    unsure = labels.copy()
    unsure[things >= names] = -1
    assert permuted_auroc(anything, unsure) == pytest.approx(0.5, abs=0.03)
    assert np.isnan(permuted_auroc(specific[:, :1], labels[:, :1]))


def test_permuted_labels_in_the_words_of_their_definition() -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(-1, 2, (300, 3)).astype(np.int8)
    scores = rng.standard_normal((300, 3))
    # Of three concepts two shifts give every pair of different ones.
    areas = []
    for concept, stranger in [(i, j) for i in range(3) for j in range(3) if i != j]:
        is_valid = (labels[:, stranger] != -1) & (labels[:, concept] != 1)
        areas.append(roc_auc_score(labels[is_valid, stranger] == 1, scores[is_valid, concept]))
    assert permuted_auroc(scores, labels, seed=3) == pytest.approx(np.mean(areas))
