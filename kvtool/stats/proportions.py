"""Intervals of shares that no resampling can give: where all that is resampled scores alike.

Then every resample does too, and the bootstrap's interval has no width: 12 of 12 right would be
[100 %, 100 %], and three pairs of a category with half of their keypoints each [50 %, 50 %]. One
rule serves every score with a range. Of n units none scores otherwise: so a share of units could,
up to the end of Wilson's interval (Wilson 1927) of none of n, and could score anything in the
range. At the edges of the range this is Wilson's interval itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from math import sqrt
from statistics import NormalDist

import numpy as np

from kvtool.stats.bootstrap import Estimate

TOPS = {"fraction": 1.0, "percent": 100.0}
"""The best score there is, by the unit of scores that have one; others, such as m, have no edge."""

SIGNED = ("difference", "chance_difference", "j_decay", "f_decay")
"""Scores from -1 to 1: where two blocks are alike in all units, there is no difference at all."""

LEAST_WIDTH = 1e-9
"""Scores are all alike whose interval is no wider than this share of the range on either side."""


@cache
def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of the share of successes among n trials.

    scipy.stats has it, too, but takes a second to load, which every command would wait for.
    """
    # Two-sided: half of what is left lies beyond each end.
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    # The shares that differ from the one observed by z of their own standard errors: the roots of
    # (share - x)^2 = z^2 x (1 - x) / n.
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z**2 / n)
    # Rounding would leave the closed ends a hair off 0 and 1.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return low, high


def widened(
    estimates: Mapping[str, Estimate], n: int, top: float | Mapping[str, float] = 1.0
) -> dict[str, Estimate]:
    """Widen the intervals, without width, of scores that are all alike.

    Args:
        estimates: Scores with their intervals; those of SIGNED stay as they are.
        n: The number of units (pictures, episodes, questions) that were resampled; of a single one
            nothing is known, and its intervals stay.
        top: The best score that there is, such as 1; or that of each score that has one.
    """
    tops = top if isinstance(top, Mapping) else dict.fromkeys(estimates, top)
    return {
        name: _widened(estimate, n, tops[name])
        if n > 1 and name in tops and name not in SIGNED
        else estimate
        for name, estimate in estimates.items()
    }


def widened_difference(difference: Estimate, score: Estimate, widened_score: Estimate) -> Estimate:
    """Widen the interval of a score less another one as far as the score's own was widened.

    Its resamples know no more of a score that is alike in all units than the score's own do.

    Args:
        difference: the difference with its interval.
        score: the score that it is taken from, with the interval of the resamples.
        widened_score: the same as `widened` returns it.
    """
    below = score.low - widened_score.low
    above = widened_score.high - score.high
    return Estimate(difference.value, difference.low - below, difference.high + above)


def _widened(estimate: Estimate, n: int, top: float) -> Estimate:
    value, low, high = (np.asarray(part, np.float64) for part in estimate)
    # None of n units scores otherwise: so large a share of all units still could.
    _, share = wilson(0, n)
    # By the range, not by the value: a share and what is left of it are alike together.
    no_width = np.maximum(high - value, value - low) <= LEAST_WIDTH * top
    # Were so many units at 0, or at the top, the score would move by their share of the way there.
    return Estimate(
        estimate.value,
        np.where(no_width, value - share * value, low),
        np.where(no_width, value + share * (top - value), high),
    )
