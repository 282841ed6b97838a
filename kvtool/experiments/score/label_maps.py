"""What ImageNet-S and BDD share: label maps counted class by class, image by image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.records import estimates, none_left, size_error, with_interval
from kvtool.datasets.files import found
from kvtool.errors import DatasetError
from kvtool.metrics.segmentation import class_counts, class_iou
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array, Scores


@dataclass(frozen=True)
class LabelMapBenchmark:
    """A benchmark's class names by id, the ignored id, and the reader of a result file.

    Ids of the label maps are 0 .. n_classes - 1 and `ignore`.
    """

    names: Sequence[str]
    ignore: int
    read: Callable[[Path], Array]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.names)


@dataclass(frozen=True)
class Counted:
    """The images that could be scored, by their result files' names.

    Args:
        names: the result files' names.
        counts: (image, 3, class) pixels of intersection, prediction and truth.
        absent: the result files that are not there.
        left_out: a line for each image whose truth cannot be used.
    """

    names: Sequence[str]
    counts: Array
    absent: Sequence[str]
    left_out: Sequence[str]


def count(
    benchmark: LabelMapBenchmark,
    truth: Mapping[str, Callable[[], Array]],
    results: Path,
    progress: Progress | None,
) -> Counted:
    """Count the pixels of every image by class, see Counted.

    An image whose truth cannot be read, or holds other ids, is left out. Raises DatasetError where
    no result is there or one has another size, and where no truth can be used. `truth` loads by the
    result file's name; `progress` gets 1, this name and the number of files.
    """
    absent = _absent(truth, results)
    rows = []
    names = []
    left_out = []
    for name, load in truth.items():
        try:
            true = load()
            check_ids(benchmark, true, name)
        except DatasetError as error:
            left_out.append(str(error))
            continue
        # The pixels of a missing file belong to no class.
        nothing = np.full(true.shape, benchmark.n_classes)
        predicted = nothing if name in absent else _read(benchmark, results / name, true)
        rows.append(class_counts(predicted, true, benchmark.n_classes, benchmark.ignore))
        names.append(name)
        if progress is not None:
            progress(1, name, len(truth))
    if not rows:
        raise none_left(f"ground truth of {results}", left_out)
    counts = np.stack(rows)
    # Truth of ignored pixels alone would make every score 0 / 0.
    if not counts[:, 2].any():
        raise DatasetError(
            f"{results}: expected pixels of some class in the ground truth, found ignored ones "
            "alone"
        )
    return Counted(names, counts, [name for name in names if name in absent], left_out)


def _read(benchmark: LabelMapBenchmark, path: Path, truth: Array) -> Array:
    """Read a result file. Raises DatasetError for one of another size than the truth."""
    predicted = benchmark.read(path)
    if predicted.shape != truth.shape:
        raise size_error(path, predicted, truth, "its ground truth")
    return predicted


def _absent(names: Collection[str], results: Path) -> set[str]:
    """Return the result files that are not there. Raises DatasetError where none is there."""
    absent = [name for name in names if not (results / name).is_file()]
    if len(absent) == len(names):
        instead = found(results / absent[0], results)
        raise DatasetError(
            f"{results}: expected label maps such as {absent[0]}, found {instead}; check the path"
        )
    return set(absent)


def check_ids(benchmark: LabelMapBenchmark, truth: Array, name: str) -> None:
    """Check the ids of the truth. Raises DatasetError for one that is neither a class nor
    ignored."""
    try:
        class_counts(truth, truth, benchmark.n_classes, benchmark.ignore)
    except ValueError as error:
        raise DatasetError(
            f"ground truth of {name}: {error}; check the data set and its number of classes"
        ) from None


def rows(
    benchmark: LabelMapBenchmark,
    counts: Array,
    scores: Scores,
    *,
    n_missing: int,
    seed: int,
    extra: Array | None = None,
    strata: Array | None = None,
) -> list[Row]:
    """Return the summary, and the accumulated IoU of every class; of a class that occurs nowhere it
    is 0.

    `counts` are (image, 3, class), `extra` (image, k) further units, and `scores` takes their sums
    (..., 3 * class + k). Images are drawn within their strata (image,). A class's n is the number
    of images whose ground truth holds it.
    """
    # Counts by class add up over images: IoU is of the sums, as the official scripts have it.
    units = counts.reshape(len(counts), -1)
    units = units if extra is None else np.concatenate([units, extra], axis=1)
    split = 3 * benchmark.n_classes

    def all_scores(sums: Array) -> dict[str, Array]:
        """Score the sums, and every class."""
        return scores(sums) | {"iou": class_iou(sums[..., :split])}

    score_estimates = estimates(units, all_scores, strata=strata, seed=seed)
    value, low, high = score_estimates.pop("iou")
    summary: Row = {}
    for name, estimate in score_estimates.items():
        summary |= with_interval(name, *map(float, estimate))
    # Row 2 counts pixels of the truth: an image has a class where there are some.
    n_images = (counts[:, 2] > 0).sum(axis=0)
    class_rows: list[Row] = []
    for i, name in enumerate(benchmark.names):
        iou = (float(np.nan_to_num(value[i])), float(low[i]), float(high[i]))
        row: Row = {"category": name, "class_id": i, **with_interval("iou", *iou)}
        class_rows.append(row | {"n": int(n_images[i])})
    return [summary | {"n": len(units), "n_missing": n_missing}, *class_rows]


def label_map_result(
    task: str,
    counted: Counted,
    class_rows: list[Row],
    folder: Path,
    config: dict[str, Any],
    skipped: Sequence[str] = (),
) -> Result:
    """Return the result of a benchmark of label maps.

    Args:
        task: the benchmark.
        counted: the images that could be scored, and what was left out.
        class_rows: see `rows`.
        folder: the folder of predictions.
        config: what the numbers depend on.
        skipped: a line for each image that the data set left out itself.
    """
    notes = [
        f"{folder / name}: no such file; its pixels count as misses" for name in counted.absent
    ]
    return Result(
        command="score",
        task=task,
        metric="miou",
        n=len(counted.names),
        rows=class_rows,
        config=config,
        versions=versions(),
        n_skipped=len(counted.left_out) + len(skipped),
        skipped=[*counted.left_out, *notes, *skipped][:MAX_REASONS],
    )
