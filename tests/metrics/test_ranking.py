"""Average precision and AUROC of maps against scikit-learn over every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kvtool.metrics.ranking import rank_cells, ranking_scores, ranking_units

MAPS, CELLS = 5, 40


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
def test_cells_are_scored_as_their_pixels(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores = rng.integers(levels, size=(MAPS, CELLS)) / 7
    positives, negatives = rng.integers(0, 9, (2, CELLS))
    precision, area = rank_cells(scores, positives, negatives)
    labels = np.concatenate([np.ones(positives.sum()), np.zeros(negatives.sum())])
    for index, cells in enumerate(scores):
        pixels = np.concatenate([cells.repeat(positives), cells.repeat(negatives)])
        assert precision[index] == pytest.approx(average_precision_score(labels, pixels))
        assert area[index] == pytest.approx(roc_auc_score(labels, pixels))


def test_a_constant_map_has_the_prevalence_and_one_half() -> None:
    precision, area = rank_cells(np.zeros((1, 4)), np.array([1, 2, 0, 0]), np.array([0, 2, 4, 3]))
    assert precision[0] == pytest.approx(3 / 12)
    assert area[0] == 0.5


def test_a_perfect_and_a_reversed_map() -> None:
    positives, negatives = np.array([5, 5, 0, 0]), np.array([0, 0, 5, 5])
    _, area = rank_cells(np.array([[4.0, 3, 2, 1], [1, 2, 3, 4]]), positives, negatives)
    assert area.tolist() == [1.0, 0.0]


def test_masks_of_one_kind_are_undefined_and_left_out_of_the_mean() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 4))
    everything, nothing = np.array([1, 2, 3, 4]), np.zeros(4, int)
    assert np.isnan(rank_cells(scores, everything, nothing)).all()
    assert np.isnan(rank_cells(scores, nothing, everything)).all()
    half = ranking_units(scores, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
    sums = half + ranking_units(scores, everything, nothing)
    assert sums[:, 2].tolist() == [1, 1]
    np.testing.assert_allclose(ranking_scores(sums)["auroc"], half[:, 1])
