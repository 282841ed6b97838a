"""Correlation of two scores over a few models: coefficients with 95 % intervals and permutation tests."""

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
"""Up to so many points every order of them is tried for p: 40,320 of 8."""
CERTAIN = 1 - 1e-12
"""Coefficients from here on count as 1."""
TIE = 1e-9
"""Coefficients of two orders that differ by less are equal, which rounding would else decide."""


class Correlation(NamedTuple):
    """A coefficient of n points, its interval and the p of no correlation, two-sided; NaN where not defined."""

    value: float
    low: float
    high: float
    p: float
    n: int


def pearson(x: Array, y: Array) -> Correlation:
    """Of (n,) and (n,). The interval is Fisher's: atanh r has variance 1 / (n - 3) for normal scores (Fisher 1921).

    Constant scores have no coefficient, fewer than four points no interval, and neither have points on a line, on
    which the variance says nothing. p: the share of all orders of y whose coefficient is as large or larger without
    its sign; of more than EXACT points that of the t distribution.
    """
    return _correlation(np.asarray(x, np.float64), np.asarray(y, np.float64), lambda _: 1.0)


def spearman(x: Array, y: Array) -> Correlation:
    """Pearson's coefficient of the ranks, ties at their mean, and as pearson otherwise, but the variance of atanh rho:
    (1 + rho^2 / 2) / (n - 3) (Bonett and Wright 2000)."""
    from scipy.stats import rankdata

    return _correlation(rankdata(x), rankdata(y), lambda rho: 1 + rho**2 / 2)


def _correlation(x: Array, y: Array, variance: Callable[[float], float]) -> Correlation:
    n = len(x)
    a, b = _standard(x), _standard(y)
    if a is None or b is None:
        return Correlation(nan, nan, nan, nan, n)
    value = min(max(float(a @ b), -1.0), 1.0)
    low = high = nan
    if n > 3 and abs(value) < CERTAIN:
        half = Z * sqrt(variance(value) / (n - 3))
        low, high = (tanh(atanh(value) + end) for end in (-half, half))
    return Correlation(value, low, high, _p(a, b, value), n)


def _standard(scores: Array) -> Array | None:
    """Centred and of length 1; None where all are equal but for rounding."""
    if len(scores) < 2:
        return None
    centred = scores - scores.mean()
    length = float(np.linalg.norm(centred))
    flat = length <= 1e-12 * max(1.0, float(np.abs(scores).max())) * sqrt(len(scores))
    return None if flat else centred / length


def _p(a: Array, b: Array, value: float) -> float:
    n = len(a)
    if n <= EXACT:
        orders = np.array(list(permutations(range(n))))
        return float((np.abs(b[orders] @ a) >= abs(value) - TIE).mean())
    from scipy.special import stdtr

    if abs(value) >= CERTAIN:
        return 0.0
    return float(2 * stdtr(n - 2, -abs(value) * sqrt((n - 2) / (1 - value**2))))
