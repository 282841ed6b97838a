"""Paired answers: did the same questions fare otherwise? McNemar's test (McNemar 1947)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array


class McNemar(NamedTuple):
    """lost: right before, wrong after; gained: wrong before, right after. p: two-sided, exact; mid_p: less cautious."""

    lost: int
    gained: int
    p: float
    mid_p: float


def mcnemar(before: Array, after: Array) -> McNemar:
    """Of two (question,) bools, right or not. Without a difference both p are 1.

    p: twice the smaller tail of Binomial(lost + gained, 1/2), 1 at most. mid_p: p less the probability of what was
    seen, half of that where both are equal (Fagerland, Lydersen, Laake 2013, section "McNemar mid-p test").
    """
    from scipy.special import bdtr, gammaln

    first, second = np.asarray(before, bool), np.asarray(after, bool)
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    n, low = lost + gained, min(lost, gained)
    if n == 0:
        return McNemar(0, 0, 1.0, 1.0)
    p = min(1.0, 2 * float(bdtr(low, n, 0.5)))
    seen = float(np.exp(gammaln(n + 1) - gammaln(low + 1) - gammaln(n - low + 1) - n * np.log(2)))
    return McNemar(lost, gained, p, p - (seen / 2 if lost == gained else seen))
