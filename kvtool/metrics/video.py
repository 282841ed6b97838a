"""DAVIS-2017, semi-supervised: region similarity J and boundary accuracy F.

The source is davis2017-evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, hypot

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

BOUNDARY_TOLERANCE = 0.008
"""The radius of the boundary match, as a fraction of the image's diagonal."""


def region_similarity(predicted: Array, truth: Array) -> float:
    """Compute J = I / U of two masks (H, W); it is 1 where both are empty."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary_map(mask: Array) -> Array:
    """Mark the pixels that differ from their east, south or south-east neighbor, (H, W) bool.

    The last row looks east only, the last column south only, and the last corner is never a
    boundary.
    """
    inner = mask.astype(bool)
    edge = np.zeros(mask.shape, bool)
    pixel = inner[:-1, :-1]
    east = pixel != inner[:-1, 1:]
    south = pixel != inner[1:, :-1]
    south_east = pixel != inner[1:, 1:]
    edge[:-1, :-1] = east | south | south_east
    # The official code leaves out what lies beyond the last row and column.
    edge[-1, :-1] = inner[-1, :-1] != inner[-1, 1:]
    edge[:-1, -1] = inner[:-1, -1] != inner[1:, -1]
    return edge


def boundary_accuracy(predicted: Array, truth: Array) -> float:
    """Compute F of precision and recall of boundary pixels of two masks (H, W).

    Pixels match within ceil(0.008 * diagonal) pixels. F is 1 where neither mask has a boundary, and
    0 where only one has.
    """
    guess = boundary_map(predicted)
    true = boundary_map(truth)
    n_guess = np.count_nonzero(guess)
    n_true = np.count_nonzero(true)
    # Precision or recall would divide by 0.
    if not n_guess or not n_true:
        return float(n_guess == n_true)
    radius_px = ceil(BOUNDARY_TOLERANCE * hypot(*mask_shape(truth)))
    # A boundary pixel is right near any pixel of the other boundary.
    precision = np.count_nonzero(guess & dilate(true, radius_px)) / n_guess
    recall = np.count_nonzero(true & dilate(guess, radius_px)) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_shape(mask: Array) -> tuple[int, int]:
    """Return height and width of a mask (..., H, W)."""
    return mask.shape[-2], mask.shape[-1]


def dilate(mask: Array, radius_px: int) -> Array:
    """Dilate a mask (H, W) with at least one pixel by a disk."""
    from scipy.ndimage import distance_transform_edt

    # The mask's bounding box and the radius around it suffice, which saves time.
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    window = tuple(
        slice(max(0, indices[0] - radius_px), indices[-1] + radius_px + 1)
        for indices in (rows, columns)
    )
    dilated = np.zeros(mask.shape, bool)
    # The distance to the nearest pixel of the mask, which is 0 on the mask itself.
    dilated[window] = distance_transform_edt(~mask[window]) <= radius_px
    return dilated


def object_frames(predicted: Sequence[Array], truth: Sequence[Array]) -> tuple[Array, Array]:
    """Compute J and F of every object in the scored frames of one sequence.

    The scored frames are 1 .. n - 2, and the objects are 1 .. the largest id of frame 0.

    Args:
        predicted: Id maps (H, W) of all n frames.
        truth: The true id maps, in which 255 counts as 0.

    Returns:
        J and F, each (object, frame).

    Raises:
        ValueError: A mask differs in size from its annotation.
    """
    # Void (255) of the first frame is no object, whatever its number.
    n_objects = int(np.where(truth[0] == 255, 0, truth[0]).max())
    scored = range(1, len(truth) - 1)
    j, f = np.zeros((2, n_objects, len(scored)))
    for column, frame in enumerate(scored):
        if predicted[frame].shape != truth[frame].shape:
            raise ValueError(
                f"frame {frame}: the mask is {predicted[frame].shape}, "
                f"the annotation {truth[frame].shape}"
            )
        for row in range(n_objects):
            # Object ids begin with 1: 0 is background.
            guess = predicted[frame] == row + 1
            true = truth[frame] == row + 1
            j[row, column] = region_similarity(guess, true)
            f[row, column] = boundary_accuracy(guess, true)
    return j, f


def object_statistics(per_frame: Array) -> dict[str, Array]:
    """Turn an object's measure (..., frame) into mean, recall and decay (...).

    Recall is the share of frames above 0.5. Decay is the mean of the first of four bins of frames
    minus that of the last.
    """
    n = per_frame.shape[-1]
    # Both edges of a bin belong to it, as in the official code.
    edges = (np.round(np.linspace(1, n, 5) + 1e-10) - 1).astype(int)
    first = per_frame[..., edges[0] : edges[1] + 1]
    last = per_frame[..., edges[3] : edges[4] + 1]
    return {
        "mean": per_frame.mean(axis=-1),
        "recall": (per_frame > 0.5).mean(axis=-1),
        "decay": first.mean(axis=-1) - last.mean(axis=-1),
    }


def davis_units(j: Array, f: Array) -> Array:
    """Turn J and F of objects (..., frame) into units (..., 7).

    The columns are mean, recall and decay of J, the same of F, and 1.
    """
    columns = [*object_statistics(j).values(), *object_statistics(f).values()]
    return np.stack([*columns, np.ones_like(columns[0])], axis=-1)


def davis_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `davis_units` into means over objects.

    They are j_and_f, j_mean, f_mean, j_recall, f_recall, j_decay and f_decay.
    """
    means = ratio(sums[..., :6], sums[..., 6:])
    columns = {"j_mean": 0, "f_mean": 3, "j_recall": 1, "f_recall": 4, "j_decay": 2, "f_decay": 5}
    return {"j_and_f": (means[..., 0] + means[..., 3]) / 2} | {
        name: means[..., i] for name, i in columns.items()
    }
