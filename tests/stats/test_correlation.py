"""Coefficients, intervals and tests against scipy, against formulas by hand, and at their edges."""

from __future__ import annotations

from itertools import permutations
from math import atanh, isnan, sqrt, tanh

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kvtool.stats.bootstrap import Array
from kvtool.stats.correlation import pearson, spearman

points = st.integers(4, 5).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(-9, 9), min_size=n, max_size=n) for _ in range(2)))
)


def slow_p(coefficient: float, x: Array, y: Array) -> float:
    """Every order of y, one by one."""
    coefficients = [abs(np.corrcoef(x, order)[0, 1]) for order in permutations(y)]
    return float(np.mean([value >= abs(coefficient) - 1e-9 for value in coefficients]))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(points)
def test_as_scipy_has_them(pair: tuple[list[int], list[int]]) -> None:
    x, y = (np.array(values, float) for values in pair)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert all(
            isnan(number) for estimate in (pearson(x, y), spearman(x, y)) for number in estimate[:4]
        )
        return
    ours, theirs = pearson(x, y), stats.pearsonr(x, y)
    assert ours.value == pytest.approx(theirs.statistic, abs=1e-9)
    if abs(ours.value) < 1 - 1e-9:
        assert ours[1:3] == pytest.approx(tuple(theirs.confidence_interval()), abs=1e-6)
    assert ours.p == pytest.approx(slow_p(ours.value, x, y))
    ranks = stats.rankdata(x), stats.rankdata(y)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert spearman(x, y).p == pytest.approx(slow_p(spearman(x, y).value, *ranks))


def test_by_hand() -> None:
    """Ranks 1 2 3 4 5 and 2 1 4 3 5: sum of squared differences 4, rho = 1 - 6 * 4 / (5 * 24) =
    0.8.
    """
    x, y = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([30.0, 10.0, 50.0, 40.0, 90.0])
    estimate = spearman(x, y)
    assert estimate.value == pytest.approx(0.8, abs=1e-12)
    half = 1.959963984540054 * sqrt((1 + 0.64 / 2) / 2)
    assert estimate[1:3] == pytest.approx(
        (tanh(atanh(0.8) - half), tanh(atanh(0.8) + half)), abs=1e-12
    )
    # Of the orders of five, 8 have a sum of squared differences of 4 or less, and 8 have rho of
    # -0.8 or less.
    assert estimate.p == pytest.approx(16 / 120)
    assert estimate.n == 5
    # Pearson of (0, 1, 2, 3) and (0, 0, 0, 4): covariance 6, squares 5 and 12.
    assert pearson(np.arange(4), np.array([0, 0, 0, 4])).value == pytest.approx(
        6 / sqrt(60), abs=1e-12
    )


def test_more_than_eight_points_take_the_t_distribution() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    assert pearson(x, y).p == pytest.approx(stats.pearsonr(x, y).pvalue, rel=1e-9)
    assert spearman(x, y).p == pytest.approx(stats.spearmanr(x, y).pvalue, rel=1e-9)
    assert pearson(np.arange(9), np.arange(9) * 3).p == 0


def test_a_line_and_three_points_have_no_interval() -> None:
    for n in (3, 4, 7):
        for estimate in (
            pearson(np.arange(n) / 7, -np.arange(n) / 3),
            spearman(np.arange(n), np.arange(n)[::-1]),
        ):
            assert estimate.value == pytest.approx(-1)
            assert isnan(estimate.low)
            assert isnan(estimate.high)
    three = pearson(np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 1.0]))
    assert 0 < three.value < 1
    assert isnan(three.low)
    assert three.p == 1.0


def test_constant_but_for_rounding() -> None:
    assert isnan(pearson(np.array([0.1 + 0.2, 0.3, 0.3]), np.array([1.0, 2.0, 3.0])).value)
    assert isnan(pearson(np.array([0.5]), np.array([1.0])).value)
