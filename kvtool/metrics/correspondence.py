"""PCK on SPair-71k (Min et al. 2019), as HPF and the Semantic-Correspondence survey evaluate it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

ALPHAS = (0.05, 0.1, 0.15)


def correct_keypoints(
    predicted_px: Array,
    target_px: Array,
    box_side_px: Array | float,
    alphas: Sequence[float] = ALPHAS,
) -> Array:
    """Tell whether each predicted point lies within alpha * box_side of its target.

    Args:
        predicted_px: Points (..., 2), (x, y) in pixels of the original target image.
        target_px: The true points, broadcast against the predicted ones.
        box_side_px: The longer side of the target's bounding box, broadcast against (...).
        alphas: The thresholds.

    Returns:
        (alpha, ...) bool.
    """
    offset = np.asarray(predicted_px, np.float64) - np.asarray(target_px, np.float64)
    square = (offset**2).sum(axis=-1)
    # Squares are compared with alpha as the fraction that its decimals say, so that a point exactly
    # on the threshold counts: 0.15 in binary is not 3/20.
    side = np.asarray(box_side_px, np.float64)
    exact = [Fraction(str(alpha)) for alpha in alphas]
    return np.stack([square * a.denominator**2 <= (a.numerator * side) ** 2 for a in exact])


def box_side_px(box_xyxy_px: Sequence[float]) -> float:
    """Return the longer side of a box (x0, y0, x1, y1); SPair's boxes are x1 - x0 wide."""
    x0, y0, x1, y1 = box_xyxy_px
    return max(x1 - x0, y1 - y0)


def pck_units(n_correct: Array, n_keypoints: Array) -> Array:
    """Turn counts (..., pair) into units (..., pair, 4): [the pair's PCK, 1, correct, keypoints].

    Pairs without a keypoint must be left out first.
    """
    shape = np.broadcast_shapes(np.shape(n_correct), np.shape(n_keypoints))
    # A pair weighs as one in pck_image, and as its keypoints in pck_point.
    correct = np.broadcast_to(n_correct, shape).astype(np.float64)
    total = np.broadcast_to(n_keypoints, shape).astype(np.float64)
    return np.stack([correct / total, np.ones(shape), correct, total], axis=-1)


def pck_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `pck_units` (..., 4) into pck_image, a mean over pairs, and pck_point.

    The latter is over all keypoints.
    """
    return {
        "pck_image": ratio(sums[..., 0], sums[..., 1]),
        "pck_point": ratio(sums[..., 2], sums[..., 3]),
    }
