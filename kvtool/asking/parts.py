"""What is scored of a benchmark's answers together: all or one group, draws side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvtool.result import Row
from kvtool.stats.bootstrap import Array, Scores


@dataclass(frozen=True)
class ScoredPart:
    """Questions that are scored together: all, or one group.

    Args:
        groups: The questions (indices) of each group.
        label: The group's name as a field; none where all groups are scored.
        scores: Turns sums of the groups' units, side by side, into named scores.
        top: The best scores that there are.
    """

    groups: tuple[Array, ...]
    label: Row
    scores: Scores
    top: float | Mapping[str, float]

    @cached_property
    def questions(self) -> Array:
        """The indices of all questions of the part."""
        return np.concatenate(self.groups)


@dataclass(frozen=True)
class Guess:
    """The best predictor that knows nothing, of one part.

    Args:
        row: Its fields in the rows of conditions.
        units: Its draws side by side, (unit, draw * k).
        n_draws: Their number.
    """

    row: Row
    units: Array
    n_draws: int


def mean_over_draws(scores: Scores, n_draws: int) -> Scores:
    """Return scores of sums of several draws side by side, (..., draw * k), averaged over the
    draws."""

    def averaged(sums: Array) -> dict[str, Array]:
        """Average the scores over the draws."""
        # Each draw is scored by itself: means of sums would be scores of a mixture.
        by_draw = scores(sums.reshape(*sums.shape[:-1], n_draws, -1))
        return {name: values.mean(axis=-1) for name, values in by_draw.items()}

    return averaged
