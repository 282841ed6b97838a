"""Intervals of shares that no resampling can give: Wilson's at the edges of a score's range.

Where all units score the same, every resample does too, and the bootstrap's interval has no width:
12 of 12 right would be [100 %, 100 %]. One rule serves every score with a range: where value and
both ends are 0, or all three are the top of the range, the inner end is that of Wilson's interval
(Wilson 1927) of none, or all, of the units that are resampled. For a share of right units it is the
interval itself; for other scores in a range it says how large a share of units could score
otherwise without a single one of n that does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kvtool.stats.bootstrap import Array, Estimate

TOPS = {"fraction": 1.0, "percent": 100.0}
"""The best score there is, by the unit of scores that have one; others, such as m, have no edge."""

SIGNED = ("difference", "chance_difference", "j_decay", "f_decay")
"""Scores from -1 to 1, of which 0 is no edge."""


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of the share of successes among n trials."""
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def widened(
    estimates: Mapping[str, Estimate], n: int, top: float | Mapping[str, float] = 1.0
) -> dict[str, Estimate]:
    """Widen the intervals of scores that collapse at an edge of their range.

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


def _widened(estimate: Estimate, n: int, top: float) -> Estimate:
    value, low, high = (np.asarray(part, np.float64) for part in estimate)
    lowest, highest = (top * end for end in (wilson(n, n)[0], wilson(0, n)[1]))
    return Estimate(
        estimate.value,
        np.where(_all_equal(value, low, top), lowest, low),
        np.where(_all_equal(value, high, 0.0), highest, high),
    )


def _all_equal(value: Array, end: Array, edge: float) -> Array:
    """Tell where a score and an end of its interval both lie at an edge."""
    at_edge: Array = np.isclose(value, edge, atol=1e-12) & np.isclose(end, edge, atol=1e-12)
    return at_edge
