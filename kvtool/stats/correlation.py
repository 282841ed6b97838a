"""Correlation of two scores over a few models, with 95 % intervals and permutation tests."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import atanh, nan, sqrt, tanh
from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array

Z = 1.959963984540054
"""The normal quantile of a 95 % interval."""
EXACT = 8
"""Up to so many points every order of them is tried for p, which is 40,320 orders of 8."""
CERTAIN = 1 - 1e-12
"""Coefficients from here on count as 1."""
TIE = 1e-9
"""Coefficients of two orders that differ by less count as equal, or rounding would decide."""


class Correlation(NamedTuple):
    """A coefficient of n points, its interval, and the two-sided p of no correlation.

    They are NaN where they are not defined.
    """

    value: float
    low: float
    high: float
    p: float
    n: int


def pearson(x: Array, y: Array) -> Correlation:
    """Compute Pearson's coefficient of two scores (n,).

    The interval is Fisher's: atanh r has variance 1 / (n - 3) for normal scores (Fisher 1921).
    Constant scores have no coefficient. Fewer than four points have no interval, and neither have
    points on a line, on which the variance says nothing. p is the share of all orders of y whose
    coefficient is as large or larger without its sign; for more than EXACT points it is that of the
    t distribution.
    """
    return _correlation(np.asarray(x, np.float64), np.asarray(y, np.float64), lambda _: 1.0)


def spearman(x: Array, y: Array) -> Correlation:
    """Compute Spearman's coefficient of two scores (n,).

    It is Pearson's of the ranks, with ties at their mean. The rest is as for `pearson`, but atanh
    rho has the variance (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000).
    """
    from scipy.stats import rankdata

    return _correlation(rankdata(x), rankdata(y), lambda rho: 1 + rho**2 / 2)


def _correlation(x: Array, y: Array, variance: Callable[[float], float]) -> Correlation:
    n = len(x)
    # As unit vectors, so that a dot product is the coefficient.
    a = _standard(x)
    b = _standard(y)
    if a is None or b is None:
        return Correlation(nan, nan, nan, nan, n)
    # Rounding may push the product of two unit vectors past 1.
    value = min(max(float(a @ b), -1.0), 1.0)
    low = high = nan
    # Fisher's interval: symmetric in atanh r, and so within -1 .. 1.
    if n > 3 and abs(value) < CERTAIN:
        half = Z * sqrt(variance(value) / (n - 3))
        low, high = (tanh(atanh(value) + end) for end in (-half, half))
    return Correlation(value, low, high, _p(a, b, value), n)


def _standard(scores: Array) -> Array | None:
    """Center the scores (n,), scale them to length 1; None where all are equal up to rounding."""
    if len(scores) < 2:
        return None
    # Of unit vectors about their means the product is the coefficient.
    centered = scores - scores.mean()
    length = float(np.linalg.norm(centered))
    # What is left of equal scores by rounding is no variation.
    flat = length <= 1e-12 * max(1.0, float(np.abs(scores).max())) * sqrt(len(scores))
    return None if flat else centered / length


def _p(a: Array, b: Array, value: float) -> float:
    n = len(a)
    # Few points: the test is exact, by all orders of one of them.
    if n <= EXACT:
        # Coefficients of all n! orders at once; without sign the test is two-sided.
        orders = np.array(list(permutations(range(n))))
        return float((np.abs(b[orders] @ a) >= abs(value) - TIE).mean())
    from scipy.special import stdtr

    # On a line t is infinite, and its formula divides by 0.
    if abs(value) >= CERTAIN:
        return 0.0
    # t = r sqrt((n - 2) / (1 - r^2)) has n - 2 degrees of freedom (Student).
    return float(2 * stdtr(n - 2, -abs(value) * sqrt((n - 2) / (1 - value**2))))
