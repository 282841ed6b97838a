"""Wilson's interval at the edges, and what is like it where all units score alike."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kvtool.stats.bootstrap import Array, Estimate, bootstrap
from kvtool.stats.proportions import widened, widened_difference, wilson


def accuracy(sums: Array) -> dict[str, Array]:
    return {"accuracy": sums[..., 0] / sums[..., 1]}


def by_formula(successes: int, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    share = successes / n
    middle = share + z**2 / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return (middle - half) / scale, (middle + half) / scale


@given(
    st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_wilson_is_the_textbooks_and_scipys(counts: tuple[int, int], level: float) -> None:
    interval = wilson(*counts, level)
    theirs = binomtest(*counts).proportion_ci(level, method="wilson")
    assert interval == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    successes, n = counts
    assert (interval[0] == 0.0, interval[1] == 1.0) == (successes == 0, successes == n)
    if level == 0.95:
        assert interval == pytest.approx(by_formula(*counts), abs=1e-12)


@pytest.mark.parametrize("right", [0, 5, 12])
def test_only_what_collapses_is_widened(right: int) -> None:
    units = np.column_stack([np.arange(12) < right, np.ones(12)])
    resampled = bootstrap(units, accuracy)
    estimate = widened(resampled, 12)["accuracy"]
    low, high = by_formula(right, 12)
    if right == 12:
        assert [float(estimate.value), float(estimate.high)] == [1.0, 1.0]
        assert float(estimate.low) == pytest.approx(low)
    elif right == 0:
        assert [float(estimate.value), float(estimate.low)] == [0.0, 0.0]
        assert float(estimate.high) == pytest.approx(high)
    else:
        assert estimate == resampled["accuracy"]


def test_signed_scores_unknown_ranges_and_single_units_stay() -> None:
    flat = Estimate(np.zeros(2), np.zeros(2), np.zeros(2))
    full = Estimate(np.full(2, 200.0), np.full(2, 200.0), np.full(2, 200.0))
    intervals = widened({"difference": flat, "score": full, "acc": flat}, 9, {"score": 200.0})
    assert intervals["difference"] is flat
    assert intervals["acc"] is flat
    assert intervals["score"].low == pytest.approx([200 * by_formula(9, 9)[0]] * 2)
    single = widened({"accuracy": flat}, 1)["accuracy"]
    assert single is flat


def test_a_difference_is_as_uncertain_as_the_score_it_is_taken_from() -> None:
    """Eight pairs without a hit are not surely worse than chance, which hits one of twenty."""
    score = Estimate(np.array([0.0, 0.3]), np.array([0.0, 0.2]), np.array([0.0, 0.4]))
    difference = Estimate(score.value - 0.05, score.low - 0.06, score.high - 0.03)
    wider = widened_difference(difference, score, widened({"pck": score}, 8)["pck"])
    assert wider.low == pytest.approx([-0.06, 0.14])
    assert wider.high == pytest.approx([by_formula(0, 8)[1] - 0.03, 0.37])


def test_units_that_are_all_alike_have_an_interval_inside_the_range() -> None:
    """Three pairs with half of their keypoints each: as wide as where all or none are right."""
    units = np.column_stack([np.full(3, 0.5), np.ones(3)])
    resampled = bootstrap(units, accuracy)
    assert float(resampled["accuracy"].low) == float(resampled["accuracy"].high) == 0.5
    estimate = widened(resampled, 3)["accuracy"]
    _, share = by_formula(0, 3)
    assert float(estimate.low) == pytest.approx(0.5 * (1 - share))
    assert float(estimate.high) == pytest.approx(0.5 + 0.5 * share)
    assert 0 < float(estimate.low) < float(estimate.high) < 1


@pytest.mark.parametrize("least", [1e-15, 1e-7, 1e-3])
def test_a_share_and_what_is_left_of_it_have_mirrored_intervals(least: float) -> None:
    """However small the share is: attention on the picture and on all else."""
    units = np.column_stack([np.array([least, 3 * least, 5 * least]), np.ones(3)])

    def scores(sums: Array) -> dict[str, Array]:
        return accuracy(sums) | {"remainder": 1 - accuracy(sums)["accuracy"]}

    estimates = widened(bootstrap(units, scores), 3)
    share, remainder = estimates["accuracy"], estimates["remainder"]
    assert float(remainder.low) == pytest.approx(1 - float(share.high), rel=0, abs=1e-12)
    assert float(remainder.high) == pytest.approx(1 - float(share.low), rel=0, abs=1e-12)
    # Only what has no width but rounding is widened.
    assert (float(share.high) > 0.1) == (least < 1e-9)
