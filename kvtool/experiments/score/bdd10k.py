"""BDD-10K: predicted label maps, scored as bdd100k's `eval/seg.py` does (protocol 8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from kvtool.asking.records import FilePath, results_folder
from kvtool.datasets.bdd10k import CLASSES, check_train_ids
from kvtool.datasets.files import by_stem, class_names, found
from kvtool.datasets.masks import VOID, LabelMap, read_label_map
from kvtool.errors import DatasetError, UsageError
from kvtool.experiments.score.label_maps import LabelMapBenchmark, count, label_map_result, rows
from kvtool.metrics.segmentation import bdd_scores
from kvtool.progress import Progress
from kvtool.result import Result
from kvtool.stats.bootstrap import Array, ratio

SPLITS = ("val", "train")


def score_bdd10k(
    data: FilePath,
    results: FilePath,
    *,
    split: str = "val",
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Score miou, miou_fgbg and the IoU of every class of RESULTS/<name>.png.

    Result files hold 8-bit train ids as the ground truth. Ground truth of 255 is dropped, a
    predicted id above 18 belongs to no class, and a missing file is a miss that `n_missing` counts.
    An image whose ground truth cannot be used is left out and counted in n_skipped. Raises
    DatasetError.

    Args:
        data: the BDD folder, or one that holds the ground truth's label maps themselves.
        results: the folder of predictions.
        split: val or train.
        seed: the random seed of the intervals.
        progress: called with 1, the file's name and the number of files.
    """
    maps = _label_maps(Path(data), split)
    folder = results_folder(results, "a label map for each image")
    names = class_names(Path(data), CLASSES)
    if len(names) != len(CLASSES):
        raise DatasetError(
            f"{Path(data) / 'classes.txt'}: expected {len(CLASSES)} names, found {len(names)}"
        )
    # Label maps are read one by one: together they would fill the memory.
    truth: dict[str, Callable[[], Array]] = {
        f"{stem}.png": partial(_truth, path) for stem, path in maps.items()
    }
    benchmark = LabelMapBenchmark(names, VOID, read_label_map)
    counted = count(benchmark, truth, folder, progress)
    class_rows = rows(
        benchmark,
        counted.counts,
        _scores,
        n_missing=len(counted.absent),
        seed=seed,
        extra=given_class_units(counted.counts),
    )
    config = {"data": str(data), "results": str(results), "split": split, "seed": seed}
    return label_map_result("bdd10k", counted, class_rows, folder, config)


def _label_maps(data: Path, split: str) -> dict[str, Path]:
    """Return the ground truth's files by name without suffix. Raises DatasetError."""
    if split not in SPLITS:
        raise UsageError(f"split: expected {' or '.join(SPLITS)}, found {split!r}")
    root = results_folder(data, "BDD-10K or its label maps")
    # The official layout, or a folder of label maps alone.
    official = root / f"labels/sem_seg/masks/{split}"
    folder = official if official.is_dir() else root
    maps = {stem: path for stem, path in by_stem(folder).items() if path.suffix.lower() == ".png"}
    if not maps:
        expected_folder = official.relative_to(root)
        raise DatasetError(
            f"{root}: expected label maps (*.png) in {expected_folder}/, found "
            f"{found(official / 'x', root)}"
        )
    return maps


def _truth(path: Path) -> LabelMap:
    labels = read_label_map(path)
    check_train_ids(labels, path)
    return labels


def given_class_units(counts: Array) -> Array:
    """Return units (image, 4) of counts (image, 3, class).

    They are background and foreground intersection, then union, summed over the classes of the
    image's ground truth, each in turn the foreground.
    """
    intersection, predicted, true = np.moveaxis(counts, 1, 0)
    union = predicted + true - intersection
    # Of the background, intersection and union are what the foreground's leave of all pixels.
    pixels = true.sum(axis=1, keepdims=True)
    columns = (pixels - union, intersection, pixels - intersection, union)
    # Only classes in the ground truth are foreground.
    return np.stack([(column * (true > 0)).sum(axis=1) for column in columns], axis=1)


def _scores(sums: Array) -> dict[str, Array]:
    given_class_iou = ratio(sums[..., -4:-2], sums[..., -2:], empty=0.0)
    return bdd_scores(sums[..., :-4]) | {"miou_fgbg": given_class_iou.mean(axis=-1)}
