"""Margins of right options scored: means with intervals by picture, and whether they change."""

from __future__ import annotations

import numpy as np

from kvtool.asking.records import scored
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, pooled


def margin_scores(margins: Array, pictures: Array, seed: int) -> Row:
    """Return the accuracy and the mean margin, and by how much they differ from those of the model
    as it is, with intervals by picture.

    Args:
        margins: (question, 2), of the model as it is, and of what is set beside it.
        pictures: The number of each question's picture, (question,).
        seed: The random seed of the intervals.
    """
    # Sums over questions, so that a resample of pictures only has to add up.
    units = np.column_stack([np.ones(len(margins)), margins, margins > 0])

    def scores(sums: Array) -> dict[str, Array]:
        """Score sums (..., 5): number, two margins, two numbers of right answers."""
        n, margin_before, margin, right_before, right = np.moveaxis(sums, -1, 0)
        return {
            "margin_change": (margin - margin_before) / n,
            "accuracy_change": (right - right_before) / n,
            "margin": margin / n,
            "accuracy": right / n,
        }

    # Of these scores the accuracy alone has an edge that it cannot pass.
    return scored(units, scores, clusters=pictures, seed=seed, top={"accuracy": 1.0})


def margin_p(changes: Array, pictures: Array) -> float:
    """Test whether margins change; return p, two-sided: Wilcoxon's signed-rank test of the
    pictures' sums.

    Changes by draws of signs cannot be told from chance once they are corrected for hundreds of
    heads; ranks have as small a p as the pictures allow.

    Args:
        changes: (question,).
        pictures: The number of each question's picture, (question,).
    """
    from scipy.stats import wilcoxon

    # Questions about a picture are one change: signed ranks need independent ones.
    sums = pooled(changes[:, None], None, pictures)[0][:, 0]
    return float(wilcoxon(sums).pvalue) if np.any(sums) else 1.0
