"""Intersection over union, counted as each benchmark's own evaluator counts it.

Masks are compared in the pixels of the original image. The counts of sampling units add up, and
`*_scores` turn sums (..., k) into named fractions (...). The sources are HSNet
(`common/evaluation.py`, `logger.py`), visual_prompting, ImageNet-S (`evaluation/`), LAVT
(`test.py`) and bdd100k (`eval/seg.py`).
"""

from __future__ import annotations

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

VOID = 255
IMAGENET_S_IGNORE = 1000
BDD_CLASSES = 19


def binary_counts(predicted: Array, truth: Array, keep: Array | None = None) -> tuple[Array, Array]:
    """Count the pixels of intersection and union, each (..., 2) int64, (background, foreground).

    Args:
        predicted: Masks (..., H, W) bool.
        truth: The true mask (H, W) bool.
        keep: (H, W) bool, False for void pixels, which count in neither mask.

    Raises:
        ValueError: The masks differ in size.
    """
    if predicted.shape[-2:] != truth.shape:
        raise ValueError(
            f"masks differ in size: predicted {predicted.shape[-2:]}, truth {truth.shape}"
        )
    # Void pixels are taken out of both masks.
    inside = np.ones(truth.shape, bool) if keep is None else keep
    n = int(inside.sum())
    n_truth = int((truth & inside).sum())
    n_predicted = np.count_nonzero(predicted & inside, axis=(-2, -1))
    foreground = np.count_nonzero(predicted & (truth & inside), axis=(-2, -1))
    union = n_predicted + n_truth - foreground
    # What is in the union of neither foreground is the intersection of the backgrounds.
    intersection = np.stack([n - union, foreground], axis=-1)
    return intersection, np.stack([n - foreground, union], axis=-1)


def fewshot_units(intersection: Array, union: Array, class_index: Array, n_classes: int) -> Array:
    """Turn the counts of episodes into units for `fewshot_scores`.

    Args:
        intersection: (..., episode, 2), see `binary_counts`.
        union: (..., episode, 2).
        class_index: (episode,), the class from 0 within the fold.
        n_classes: The number of classes of the fold.

    Returns:
        (..., episode, 4 * n_classes + 2): background and foreground of intersection and union for
        each class, the episode's foreground IoU, and 1 where that is defined.
    """
    episodes = len(class_index)
    units = np.zeros((*intersection.shape[:-2], episodes, 4 * n_classes + 2))
    # An episode's counts go into the four columns of its class; the others stay 0.
    counts = np.concatenate([intersection, union], axis=-1)
    for column in range(4):
        units[..., np.arange(episodes), 4 * class_index + column] = counts[..., column]
    # The last two columns: the sum of IoU, and how many episodes have one.
    iou = ratio(intersection[..., 1], union[..., 1])
    units[..., -2] = np.nan_to_num(iou)
    units[..., -1] = ~np.isnan(iou)
    return units


def fewshot_scores(sums: Array, *, drawn_alone: bool = False) -> dict[str, Array]:
    """Turn sums of `fewshot_units` into the scores of Pascal-5i.

    miou accumulates the foreground IoU of each class and takes the mean over the fold's classes, of
    which one without pixels counts 0. miou_episode is the mean foreground IoU of the episodes
    without those whose union is empty. fb_iou is the mean of background and foreground IoU, both
    accumulated over classes.

    Args:
        sums: (..., 4 * n_classes + 2).
        drawn_alone: Take the mean of miou over classes that have an episode among the units: a half
            of the episodes may lack a class, which is no score of 0.
    """
    # (..., class, intersection or union, background or foreground).
    counts = sums[..., :-2].reshape(*sums.shape[:-1], -1, 2, 2)
    intersection = counts[..., 0, :]
    union = counts[..., 1, :]
    iou = ratio(intersection[..., 1], union[..., 1], empty=0.0)
    # Both unions are empty where no pixel was scored at all.
    is_drawn = union.any(axis=-1) if drawn_alone else np.ones(iou.shape, bool)
    return {
        "miou": ratio((iou * is_drawn).sum(axis=-1), is_drawn.sum(axis=-1)),
        "miou_episode": ratio(sums[..., -2], sums[..., -1]),
        "fb_iou": ratio(intersection.sum(axis=-2), union.sum(axis=-2), empty=0.0).mean(axis=-1),
    }


def foreground_units(intersection: Array, union: Array) -> Array:
    """Turn counts (..., n, 2) of images or sentences into units (..., n, 13).

    `fgbg_scores`, `j_scores` and `refcoco_scores` take them. The columns are intersection (2),
    union (2), foreground IoU (0 where its union is 0), the mean of background and foreground IoU
    (of the defined ones), 1, foreground IoU (1 where its union is 0), and whether the foreground
    IoU is 0.5, 0.6, ... 0.9 or more.
    """
    iou = ratio(intersection, union)
    # An IoU without pixels is left out of the mean, and counts 0 by itself.
    foreground = ratio(intersection[..., 1], union[..., 1], empty=0.0)
    defined = ~np.isnan(iou)
    mean = ratio(np.nan_to_num(iou).sum(axis=-1), defined.sum(axis=-1), empty=0.0)
    # To j_scores two empty masks are a perfect match.
    full = np.where(union[..., 1] == 0, 1.0, foreground)
    columns = [foreground, mean, np.ones_like(foreground), full]
    columns += [foreground >= threshold for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]
    return np.concatenate(
        [intersection, union, np.stack(columns, axis=-1)], axis=-1, dtype=np.float64
    )


def fgbg_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `foreground_units` into the scores of ImageNet-S with the class given.

    miou_fgbg is the mean of background and foreground IoU, both accumulated over images, and
    miou_fgbg_image their mean over images; iou_fg is the accumulated foreground IoU.
    """
    iou = ratio(sums[..., 0:2], sums[..., 2:4], empty=0.0)
    return {
        "miou_fgbg": iou.mean(axis=-1),
        "miou_fgbg_image": ratio(sums[..., 5], sums[..., 6]),
        "iou_fg": iou[..., 1],
    }


def j_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `foreground_units` into j_mean of co-segmentation.

    It is the mean over images of I/U, which is 1 where neither mask has a pixel.
    """
    return {"j_mean": ratio(sums[..., 7], sums[..., 6])}


def refcoco_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `foreground_units` of sentences into the scores of RefCOCO (LAVT).

    They are miou_fg (0 where the union is empty), oiou, p@0.5 ... p@0.9 (>=), and miou_fgbg.
    """
    scores = {
        "miou_fgbg": ratio(sums[..., 5], sums[..., 6]),
        "miou_fg": ratio(sums[..., 4], sums[..., 6]),
        "oiou": ratio(sums[..., 1], sums[..., 3], empty=0.0),
    }
    return scores | {f"p@0.{5 + i}": ratio(sums[..., 8 + i], sums[..., 6]) for i in range(5)}


def class_counts(predicted: Array, truth: Array, n_classes: int, ignore: int) -> Array:
    """Count the pixels of each class in intersection, prediction and truth, (3, n_classes) int64.

    A predicted id outside 0 .. n_classes - 1 belongs to no class and is a miss.

    Args:
        predicted: Class ids (H, W).
        truth: The true class ids (H, W).
        n_classes: The number of classes.
        ignore: The true id of pixels that do not count.

    Raises:
        ValueError: The masks differ in size, or a true id is outside the classes.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in size: predicted {predicted.shape}, truth {truth.shape}")
    # Pixels of the ignored id count nowhere, whatever was predicted there.
    keep = truth != ignore
    guess = predicted[keep].astype(np.int64)
    true = truth[keep].astype(np.int64)
    if true.size and not 0 <= true.min() <= true.max() < n_classes:
        raise ValueError(
            f"ground truth holds id {int(true.max())}; "
            f"ids are 0 to {n_classes - 1} and {ignore} (ignored)"
        )
    # An id beyond the classes misses the true class, and is no other's prediction.
    valid = (guess >= 0) & (guess < n_classes)
    return np.stack(
        [
            np.bincount(true[guess == true], minlength=n_classes),
            np.bincount(guess[valid], minlength=n_classes),
            np.bincount(true, minlength=n_classes),
        ]
    )


def _by_class(sums: Array) -> tuple[Array, Array, Array]:
    """Take sums (..., 3 * n_classes) apart into intersection, prediction and truth."""
    intersection, predicted, true = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return intersection, predicted, true


def class_iou(sums: Array) -> Array:
    """Turn sums of `class_counts` (..., 3 * n_classes) into IoU (..., n_classes).

    It is NaN where the class occurs nowhere.
    """
    intersection, predicted, true = _by_class(sums)
    return ratio(intersection, predicted + true - intersection)


def imagenet_s_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `class_counts` into the scores of ImageNet-S over all classes.

    miou is the official mean of I / (U + 1e-10) over the classes and background, in which a class
    that occurs nowhere counts 0. miou_present is the mean over the classes of the ground truth.
    """
    intersection, predicted, true = _by_class(sums)
    # The official evaluator's guard against 0 / 0, which makes absent classes 0.
    iou = intersection / (predicted + true - intersection + 1e-10)
    return {
        "miou": iou.mean(axis=-1),
        "miou_present": ratio((iou * (true > 0)).sum(-1), (true > 0).sum(-1)),
    }


def bdd_scores(sums: Array) -> dict[str, Array]:
    """Turn sums of `class_counts` into BDD's miou.

    It is the mean of the accumulated IoU over the classes that the ground truth has.
    """
    iou = np.nan_to_num(class_iou(sums))
    # Classes that only predictions have are no part of the mean.
    present = _by_class(sums)[2] > 0
    return {"miou": ratio((iou * present).sum(-1), present.sum(-1))}
