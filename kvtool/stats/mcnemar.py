"""Paired answers: did the same questions fare otherwise? McNemar's test (McNemar 1947)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array


class McNemar(NamedTuple):
    """The test's result: questions lost (right before, wrong after) and gained (the reverse).

    p is two-sided and exact; mid_p is less cautious.
    """

    lost: int
    gained: int
    p: float
    mid_p: float


def mcnemar(before: Array, after: Array) -> McNemar:
    """Test whether right answers (question,) bool differ before and after.

    p is twice the smaller tail of Binomial(lost + gained, 1/2), 1 at most. mid_p is p less the
    probability of what was seen, or half of that where both numbers are equal (Fagerland, Lydersen,
    Laake 2013, section "McNemar mid-p test"). Without a difference both are 1.
    """
    from scipy.special import bdtr, gammaln

    # Only questions that changed say anything.
    first = np.asarray(before, bool)
    second = np.asarray(after, bool)
    lost = int((first & ~second).sum())
    gained = int((~first & second).sum())
    n = lost + gained
    low = min(lost, gained)
    if n == 0:
        return McNemar(0, 0, 1.0, 1.0)
    # Where both numbers are equal the two tails overlap, and twice one exceeds 1.
    p = min(1.0, 2 * float(bdtr(low, n, 0.5)))
    # The probability of exactly these numbers, by logarithms so that large n do not overflow.
    seen = float(np.exp(gammaln(n + 1) - gammaln(low + 1) - gammaln(n - low + 1) - n * np.log(2)))
    return McNemar(lost, gained, p, p - (seen / 2 if lost == gained else seen))
