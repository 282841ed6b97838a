"""DAVIS-2017, semi-supervised: region similarity J and boundary accuracy F (davis2017-evaluation)."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, hypot

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

BOUNDARY_TOLERANCE = 0.008
"""Radius of the boundary match as a fraction of the image diagonal."""


def region_similarity(predicted: Array, truth: Array) -> float:
    """J = I / U of two (H, W) masks, 1 where both are empty."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary_map(mask: Array) -> Array:
    """(H, W) bool: pixels that differ from their east, south or south-east neighbour. The last row looks east only,
    the last column south only, the last corner is never a boundary."""
    inner, edge = mask.astype(bool), np.zeros(mask.shape, bool)
    here = inner[:-1, :-1]
    edge[:-1, :-1] = (here != inner[:-1, 1:]) | (here != inner[1:, :-1]) | (here != inner[1:, 1:])
    edge[-1, :-1] = inner[-1, :-1] != inner[-1, 1:]
    edge[:-1, -1] = inner[:-1, -1] != inner[1:, -1]
    return edge


def boundary_accuracy(predicted: Array, truth: Array) -> float:
    """F of precision and recall of boundary pixels, matched within ceil(0.008 * diagonal) pixels.

    Both boundary maps empty: 1. One empty: 0.
    """
    said, true = boundary_map(predicted), boundary_map(truth)
    n_said, n_true = np.count_nonzero(said), np.count_nonzero(true)
    if not n_said or not n_true:
        return float(n_said == n_true)
    radius_px = ceil(BOUNDARY_TOLERANCE * hypot(*mask_shape(truth)))
    precision = np.count_nonzero(said & dilate(true, radius_px)) / n_said
    recall = np.count_nonzero(true & dilate(said, radius_px)) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_shape(mask: Array) -> tuple[int, int]:
    return mask.shape[-2], mask.shape[-1]


def dilate(mask: Array, radius_px: int) -> Array:
    """Dilation by a disk, for a mask with at least one pixel; computed on its bounding box plus the radius."""
    from scipy.ndimage import distance_transform_edt

    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = tuple(slice(max(0, at[0] - radius_px), at[-1] + radius_px + 1) for at in (rows, cols))
    near = np.zeros(mask.shape, bool)
    near[window] = distance_transform_edt(~mask[window]) <= radius_px
    return near


def object_frames(predicted: Sequence[Array], truth: Sequence[Array]) -> tuple[Array, Array]:
    """J and F of every object in the scored frames 1 .. n - 2 of one sequence: each (object, frame).

    predicted, truth: (H, W) id maps of all n frames; 255 counts as 0. The objects are 1 .. the largest id of frame 0.
    """
    n_objects = int(np.where(truth[0] == 255, 0, truth[0]).max())
    scored = range(1, len(truth) - 1)
    j, f = np.zeros((2, n_objects, len(scored)))
    for column, frame in enumerate(scored):
        if predicted[frame].shape != truth[frame].shape:
            raise ValueError(
                f"frame {frame}: the mask is {predicted[frame].shape}, the annotation {truth[frame].shape}"
            )
        for row in range(n_objects):
            said, true = predicted[frame] == row + 1, truth[frame] == row + 1
            j[row, column] = region_similarity(said, true)
            f[row, column] = boundary_accuracy(said, true)
    return j, f


def object_statistics(per_frame: Array) -> dict[str, Array]:
    """(..., frame) -> mean, recall (share > 0.5) and decay (mean of the first minus mean of the last of four bins,
    whose edges both belong to them)."""
    n = per_frame.shape[-1]
    edges = (np.round(np.linspace(1, n, 5) + 1e-10) - 1).astype(int)
    first, last = per_frame[..., edges[0] : edges[1] + 1], per_frame[..., edges[3] : edges[4] + 1]
    return {
        "mean": per_frame.mean(axis=-1),
        "recall": (per_frame > 0.5).mean(axis=-1),
        "decay": first.mean(axis=-1) - last.mean(axis=-1),
    }


def davis_units(j: Array, f: Array) -> Array:
    """Per object from its frames (..., frame): [J mean, recall, decay, F mean, recall, decay, 1] (..., 7)."""
    columns = [*object_statistics(j).values(), *object_statistics(f).values()]
    return np.stack([*columns, np.ones_like(columns[0])], axis=-1)


def davis_scores(sums: Array) -> dict[str, Array]:
    """Means over objects: j_and_f, j_mean, f_mean, j_recall, f_recall, j_decay, f_decay."""
    means = ratio(sums[..., :6], sums[..., 6:])
    columns = {"j_mean": 0, "f_mean": 3, "j_recall": 1, "f_recall": 4, "j_decay": 2, "f_decay": 5}
    return {"j_and_f": (means[..., 0] + means[..., 3]) / 2} | {
        name: means[..., i] for name, i in columns.items()
    }
