"""Points of a pair's target that know nothing of what the images show, the best that patches could
give, and how many of them are right."""

from __future__ import annotations

import numpy as np

from kvtool.datasets.spair71k import Pair
from kvtool.features.layers import centers_px
from kvtool.metrics.correspondence import box_side_px, correct_keypoints
from kvtool.tasks.base import Array, Grids
from kvtool.tasks.chance import DRAWS
from kvtool.types import GridSpan


def random_points(pair: Pair, rng: np.random.Generator) -> Array:
    """(draw, keypoint, 2) points of the target's box, all as likely."""
    low, high = np.reshape(pair.trg_box_xyxy_px, (2, 2))
    points: Array = low + rng.random((DRAWS, len(pair.trg_kps_px), 2)) * (high - low)
    return points


def random_patches(pair: Pair, span: GridSpan, rng: np.random.Generator) -> Array:
    """(draw, keypoint, 2) centers of patches of the target, all as likely."""
    centers = centers_px(span)
    picks = rng.integers(len(centers), size=(DRAWS, len(pair.trg_kps_px)))
    return np.asarray(centers[picks])


def same_places(pair: Pair) -> Array:
    """(1, keypoint, 2) the source's points, on a target that is stretched to the source's size."""
    # Relative to the source's size, then in pixels of the target.
    shares = np.array(pair.src_kps_px) / np.array(pair.src_wh_px)
    return np.asarray((shares * np.array(pair.trg_wh_px))[None])


def best_patches(pair: Pair, span: GridSpan) -> Array:
    """(1, keypoint, 2) the centers of patches nearest to the true points."""
    centers = centers_px(span)
    # From each true point to all centers, (keypoint, cell, 2).
    offsets = np.array(pair.trg_kps_px)[:, None] - centers
    return np.asarray(centers[np.square(offsets).sum(-1).argmin(1)][None])


def pixel_points(pair: Pair, wh_px: tuple[int, int]) -> Array:
    """(1, keypoint, 2) the pixels nearest to the true points."""
    return np.asarray(np.clip(np.round(pair.trg_kps_px), 0, np.array(wh_px) - 1)[None])


def n_correct(pair: Pair, points_px: Array) -> Array:
    """(draw, alpha) number of keypoints that points (draw, keypoint, 2) find."""
    # The box's longer side sets the scale of what is near enough.
    correct = correct_keypoints(
        points_px, np.array(pair.trg_kps_px), box_side_px(pair.trg_box_xyxy_px)
    )
    return np.asarray(correct.sum(axis=-1).T)


def n_unseen(pair: Pair, grids: Grids) -> tuple[int, int]:
    """How many keypoints have an end outside its image's grid, and how many there are."""
    ends = zip(pair.src_kps_px, pair.trg_kps_px, strict=True)
    spans = grids[pair.src_id], grids[pair.trg_id]
    # A keypoint can only be found where both of its ends lie on a grid.
    n_out = sum(
        not all(span.covers(*point) for span, point in zip(spans, points, strict=True))
        for points in ends
    )
    return n_out, len(pair.trg_kps_px)
