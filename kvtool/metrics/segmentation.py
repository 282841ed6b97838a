"""Intersection over union, counted as each benchmark's own evaluator counts it.

Masks are compared in the pixels of the original image. Per sampling unit the counts add up; `*_scores` turn sums
(..., k) into named fractions (...). Sources: HSNet `common/evaluation.py` and `logger.py`, visual_prompting,
ImageNet-S `evaluation/`, LAVT `test.py`, bdd100k `eval/seg.py`.
"""

from __future__ import annotations

import numpy as np

from kvtool.stats.bootstrap import Array, ratio

VOID = 255
IMAGENET_S_IGNORE = 1000
BDD_CLASSES = 19


def binary_counts(predicted: Array, truth: Array, keep: Array | None = None) -> tuple[Array, Array]:
    """Pixels of intersection and union, each (..., 2) int64 as (background, foreground).

    predicted (..., H, W) bool against truth (H, W) bool; keep (H, W) bool drops void pixels from both.
    """
    if predicted.shape[-2:] != truth.shape:
        raise ValueError(
            f"masks differ in size: predicted {predicted.shape[-2:]}, truth {truth.shape}"
        )
    inside = np.ones(truth.shape, bool) if keep is None else keep
    n, n_truth = int(inside.sum()), int((truth & inside).sum())
    n_predicted = np.count_nonzero(predicted & inside, axis=(-2, -1))
    both = np.count_nonzero(predicted & (truth & inside), axis=(-2, -1))
    union = n_predicted + n_truth - both
    intersection = np.stack([n - union, both], axis=-1)
    return intersection, np.stack([n - both, union], axis=-1)


def fewshot_units(intersection: Array, union: Array, class_index: Array, n_classes: int) -> Array:
    """Per episode, for fewshot_scores: (..., episode, 2) counts, class_index (episode,) 0-based within the fold.

    Columns: background and foreground intersection and union of each class (4 * n_classes), the episode's
    foreground IoU, and 1 where that is defined.
    """
    episodes = len(class_index)
    units = np.zeros((*intersection.shape[:-2], episodes, 4 * n_classes + 2))
    counts = np.concatenate([intersection, union], axis=-1)
    for column in range(4):
        units[..., np.arange(episodes), 4 * class_index + column] = counts[..., column]
    iou = ratio(intersection[..., 1], union[..., 1])
    units[..., -2] = np.nan_to_num(iou)
    units[..., -1] = ~np.isnan(iou)
    return units


def fewshot_scores(sums: Array) -> dict[str, Array]:
    """Pascal-5i. miou: foreground IoU accumulated per class, mean over the fold's classes, one without pixels counts
    0. miou_episode: mean foreground IoU of the episodes, those with an empty union left out. fb_iou: mean of
    background and foreground IoU, accumulated over classes."""
    counts = sums[..., :-2].reshape(*sums.shape[:-1], -1, 2, 2)
    intersection, union = counts[..., 0, :], counts[..., 1, :]
    return {
        "miou": ratio(intersection[..., 1], union[..., 1], empty=0.0).mean(axis=-1),
        "miou_episode": ratio(sums[..., -2], sums[..., -1]),
        "fb_iou": ratio(intersection.sum(axis=-2), union.sum(axis=-2), empty=0.0).mean(axis=-1),
    }


def foreground_units(intersection: Array, union: Array) -> Array:
    """Per image or sentence, for fgbg_scores, j_scores and refcoco_scores: (..., n, 2) counts -> (..., n, 13).

    Columns: intersection (2), union (2), foreground IoU (0 where its union is 0), mean of background and foreground
    IoU (over the defined ones), 1, foreground IoU (1 where its union is 0), and foreground IoU >= 0.5 ... 0.9.
    """
    iou = ratio(intersection, union)
    foreground = ratio(intersection[..., 1], union[..., 1], empty=0.0)
    defined = ~np.isnan(iou)
    both = ratio(np.nan_to_num(iou).sum(axis=-1), defined.sum(axis=-1), empty=0.0)
    full = np.where(union[..., 1] == 0, 1.0, foreground)
    columns = [foreground, both, np.ones_like(foreground), full]
    columns += [foreground >= threshold for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)]
    return np.concatenate(
        [intersection, union, np.stack(columns, axis=-1)], axis=-1, dtype=np.float64
    )


def fgbg_scores(sums: Array) -> dict[str, Array]:
    """ImageNet-S with the class given. miou_fgbg: mean of background and foreground IoU accumulated over images;
    miou_fgbg_image: mean over images; iou_fg: foreground, accumulated."""
    iou = ratio(sums[..., 0:2], sums[..., 2:4], empty=0.0)
    return {
        "miou_fgbg": iou.mean(axis=-1),
        "miou_fgbg_image": ratio(sums[..., 5], sums[..., 6]),
        "iou_fg": iou[..., 1],
    }


def j_scores(sums: Array) -> dict[str, Array]:
    """Co-segmentation: j_mean, the mean over images of I/U; 1 where neither mask has a pixel."""
    return {"j_mean": ratio(sums[..., 7], sums[..., 6])}


def refcoco_scores(sums: Array) -> dict[str, Array]:
    """Per sentence (LAVT): miou_fg (0 where the union is empty), oiou, p@0.5 ... p@0.9 (>=); plus miou_fgbg."""
    scores = {
        "miou_fgbg": ratio(sums[..., 5], sums[..., 6]),
        "miou_fg": ratio(sums[..., 4], sums[..., 6]),
        "oiou": ratio(sums[..., 1], sums[..., 3], empty=0.0),
    }
    return scores | {f"p@0.{5 + i}": ratio(sums[..., 8 + i], sums[..., 6]) for i in range(5)}


def class_counts(predicted: Array, truth: Array, n_classes: int, ignore: int) -> Array:
    """Per class pixels of [intersection, predicted, truth]: (3, n_classes) int64; truth == ignore is dropped.

    A predicted id outside 0 .. n_classes - 1 belongs to no class: a miss. Raises ValueError for such a true id.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"masks differ in size: predicted {predicted.shape}, truth {truth.shape}")
    keep = truth != ignore
    said, true = predicted[keep].astype(np.int64), truth[keep].astype(np.int64)
    if true.size and not 0 <= true.min() <= true.max() < n_classes:
        raise ValueError(
            f"ground truth holds id {int(true.max())}; ids are 0 to {n_classes - 1} and {ignore} (ignored)"
        )
    known = (said >= 0) & (said < n_classes)
    return np.stack(
        [
            np.bincount(true[said == true], minlength=n_classes),
            np.bincount(said[known], minlength=n_classes),
            np.bincount(true, minlength=n_classes),
        ]
    )


def class_iou(sums: Array) -> Array:
    """(..., 3 * n_classes) sums of class_counts -> IoU (..., n_classes), NaN where the class occurs nowhere."""
    intersection, said, true = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return ratio(intersection, said + true - intersection)


def imagenet_s_scores(sums: Array) -> dict[str, Array]:
    """All-classes ImageNet-S. miou: mean over all C + 1 classes with background, I / (U + 1e-10), a class seen nowhere
    counts 0 (official); miou_present: mean over the classes present in the ground truth."""
    intersection, said, true = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    iou = intersection / (said + true - intersection + 1e-10)
    return {
        "miou": iou.mean(axis=-1),
        "miou_present": ratio((iou * (true > 0)).sum(-1), (true > 0).sum(-1)),
    }


def bdd_scores(sums: Array) -> dict[str, Array]:
    """BDD: miou, the mean over the classes present in the ground truth of the accumulated IoU."""
    iou = np.nan_to_num(class_iou(sums))
    present = sums.reshape(*sums.shape[:-1], 3, -1)[..., 2, :] > 0
    return {"miou": ratio((iou * present).sum(-1), present.sum(-1))}
