"""ImageNet-S: predicted id maps, scored as the official evaluation does (protocol 3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from kvtool.asking.records import FilePath, results_folder
from kvtool.datasets.imagenet_s import IGNORE, SIZES, ImageNetS, read_ids
from kvtool.errors import DatasetError, UsageError
from kvtool.experiments.score.label_maps import LabelMapBenchmark, count, label_map_result, rows
from kvtool.metrics.segmentation import imagenet_s_scores
from kvtool.progress import Progress
from kvtool.result import Result
from kvtool.stats.bootstrap import Array


def score_imagenet_s(
    data: FilePath,
    results: FilePath,
    *,
    classes: int,
    split: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Score miou and the IoU of every class of RESULTS/<wnid>/<name>.png.

    Result files are RGB with id = R + 256 G as the ground truth. Ground truth of 1000 is dropped, a
    predicted id above `classes` belongs to no class, and a missing file is a miss that `n_missing`
    counts. Intervals draw images within their wnid, as a resample without some class would score it
    0. An image whose ground truth is missing or cannot be used is left out and counted in
    n_skipped. Raises DatasetError and UsageError.

    Args:
        data: the folder of one size.
        results: the folder of predictions.
        classes: 50, 300 or 919.
        split: the split, by default the data set's.
        seed: the random seed of the intervals.
        progress: called with 1, the file's name and the number of files.
    """
    dataset = _open(data, split, classes)
    folder = results_folder(results, "a folder of id maps for each wnid")
    images = dataset.labelled_ids()
    if not images:
        raise DatasetError(
            f"{data}: expected maps in {dataset.split}-segmentation/<wnid>/, found none"
        )
    # Maps are loaded when their turn comes.
    truth: dict[str, Callable[[], Array]] = {
        f"{name}.png": partial(dataset.label_map, name) for name in images
    }
    benchmark = LabelMapBenchmark(_names(dataset, classes), IGNORE, read_prediction)
    counted = count(benchmark, truth, folder, progress)
    # An image's wnid is its stratum.
    folders = np.unique([name.partition("/")[0] for name in counted.names], return_inverse=True)[1]
    class_rows = rows(
        benchmark,
        counted.counts,
        imagenet_s_scores,
        n_missing=len(counted.absent),
        seed=seed,
        strata=folders,
    )
    config = {
        "data": str(data),
        "results": str(results),
        "split": dataset.split,
        "classes": classes,
        "seed": seed,
    }
    return label_map_result("imagenet-s", counted, class_rows, folder, config, dataset.skipped)


def _open(data: FilePath, split: str | None, classes: int) -> ImageNetS:
    """Open the data set. Raises UsageError where it has not this number of classes."""
    if classes not in SIZES:
        raise UsageError(
            f"classes: ImageNet-S has {', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}, not "
            f"{classes}"
        )
    dataset = ImageNetS(Path(data), split)
    if dataset.size not in (None, classes):
        raise UsageError(f"classes: {data} is ImageNet-S{dataset.size}, not {classes}")
    return dataset


def read_prediction(path: Path) -> Array:
    """Read ids, (height, width) int32.

    Raises DatasetError for a file that is not RGB: its ids would read as others.
    """
    ids = read_ids(path)
    with Image.open(path) as image:
        mode = image.mode
    if mode != "RGB":
        raise DatasetError(
            f"{path}: expected an RGB map with id = R + 256 G, found mode {mode}; write it as RGB"
        )
    return ids


def _names(dataset: ImageNetS, classes: int) -> list[str]:
    """Return `other` and the wnids in the order of their ids.

    Where the data set's folders are not all there, the ids stand for them.
    """
    try:
        wnids: tuple[str, ...] = dataset.wnids
    except DatasetError:
        wnids = ()
    is_complete = len(wnids) == classes
    return ["other", *(wnids if is_complete else map(str, range(1, classes + 1)))]
