"""What a reconstruction loses: closed forms, planted truths and the coverage of intervals."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.features.splicing import splice_scores

PLAIN = np.array([1.0, 2.0, 3.0])


def test_closed_forms() -> None:
    score = splice_scores(PLAIN, PLAIN + np.array([0.1, 0.2, 0]), PLAIN + np.array([1, 0.5, 0]))
    assert score.delta_loss == pytest.approx(0.1)
    assert score.recovered == pytest.approx(1 - 0.3 / 1.5)
    assert score.delta_loss_low <= score.delta_loss <= score.delta_loss_high
    assert score.recovered_low <= score.recovered <= score.recovered_high
    assert splice_scores(PLAIN, PLAIN, PLAIN + 1).recovered == 1.0
    assert splice_scores(PLAIN, PLAIN + 1, PLAIN + 1).recovered == 0.0
    assert splice_scores(PLAIN, PLAIN + 2, PLAIN + 1).recovered == -1.0


@pytest.mark.parametrize("averaged", [PLAIN, PLAIN - 1])
def test_where_the_mean_vector_loses_nothing_there_is_nothing_to_recover(
    averaged: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    score = splice_scores(PLAIN, PLAIN + 0.5, averaged)
    assert score.delta_loss == pytest.approx(0.5)
    assert np.isnan([score.recovered, score.recovered_low, score.recovered_high]).all()


def test_no_image_has_no_score() -> None:
    assert np.isnan(splice_scores(*np.zeros((3, 0)))).all()


def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for seed in range(300):
        hardness = rng.gamma(4.0, 0.25, size=60)
        plain = 1 + hardness
        reconstructed = plain + 0.3 * hardness + rng.normal(0, 0.1, 60)
        averaged = plain + 1.0 * hardness + rng.normal(0, 0.2, 60)
        score = splice_scores(plain, reconstructed, averaged, seed=seed, draws=400)
        covered += [
            score.delta_loss_low <= 0.3 <= score.delta_loss_high,
            score.recovered_low <= 0.7 <= score.recovered_high,
        ]
    assert ((covered / 300 > 0.9) & (covered / 300 < 0.985)).all()
