"""DAVIS-2017, semi-supervised: a tree of masks, scored as davis2017-evaluation does (protocol
6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kvtool.asking.records import (
    FilePath,
    none_left,
    results_folder,
    scored,
    size_error,
)
from kvtool.datasets.davis import Davis, Video
from kvtool.datasets.masks import read_label_map
from kvtool.errors import DatasetError
from kvtool.metrics.video import davis_scores, davis_units, object_frames
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array, count_clusters


def score_davis(
    data: FilePath,
    results: FilePath,
    *,
    split: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Score J and F of RESULTS/<sequence>/<frame>.png over all objects and of each.

    The first and the last frame are not scored and need no mask. Intervals resample sequences, with
    all of their objects. A sequence whose annotations are
    not all there, of one size and readable, is left out and counted in n_skipped. Raises
    DatasetError for a missing sequence or frame of the results, a mask of another size, and an id
    above the number of objects of the sequence, where the official script ends too.

    Args:
        data: the DAVIS folder.
        results: the folder of predictions, indexed PNGs as the annotations.
        split: val or train.
        seed: the random seed of the intervals.
        progress: called with 1, the sequence's name and the number of sequences.
    """
    dataset = Davis(Path(data), split)
    folder = results_folder(results, "a folder of masks for each sequence")
    units, objects, skipped = _score_videos(dataset, folder, progress)
    if not units:
        raise none_left(f"{data}: sequences", skipped)
    # Objects of all sequences weigh the same, as in the official evaluation.
    object_units = np.concatenate(list(units.values()))
    # Objects of a sequence share its frames: sequences are resampled, as those of a probe are.
    sequences = np.repeat(list(units), [len(video_units) for video_units in units.values()])
    rows: list[Row] = [
        {
            **scored(object_units, _scores, clusters=sequences, seed=seed),
            "n": len(object_units),
            "n_resampled": count_clusters(len(object_units), sequences),
        }
    ]
    # One object has no interval: there is nothing to resample.
    rows += [
        {**label, **scored(unit[None], _scores), "n": 1}
        for label, unit in zip(objects, object_units, strict=True)
    ]
    return Result(
        command="score",
        task="davis",
        metric="j_and_f",
        n=len(object_units),
        rows=rows,
        config={"data": str(data), "results": str(results), "split": dataset.split, "seed": seed},
        versions=versions(),
        n_skipped=dataset.n_sequences - len(units),
        skipped=skipped[:MAX_REASONS],
    )


def _score_videos(
    dataset: Davis, folder: Path, progress: Progress | None
) -> tuple[dict[str, Array], list[Row], list[str]]:
    """Score the sequences: units (object, 7) of each by name, a label for each object, and those
    left out."""
    videos = dataset.videos()
    skipped = list(dataset.skipped)
    units: dict[str, Array] = {}
    objects: list[Row] = []
    for video in videos:
        # A missing annotation would shift the frames that are scored; it is named already.
        if not all(map(dataset.has_label_map, video.frame_ids)):
            continue
        # Annotations that cannot be used leave the sequence out; results that cannot end the
        # scoring.
        try:
            truth = _truth(dataset, video)
        except DatasetError as error:
            skipped.append(str(error))
            continue
        video_units = _video_units(video, truth, folder)
        units[video.name] = video_units
        objects += [
            {"object": f"{video.name}_{i}", "n_frames": len(video.frame_ids) - 2}
            for i in range(1, len(video_units) + 1)
        ]
        if progress is not None:
            progress(1, video.name, len(videos))
    return units, objects, skipped


def _truth(dataset: Davis, video: Video) -> list[Array]:
    """Return the annotations of a sequence's frames. Raises DatasetError where it cannot be scored
    by them."""
    if len(video.frame_ids) < 3:
        raise DatasetError(f"sequence {video.name}: no frame between its ends")
    truth: list[Array] = [dataset.label_map(frame) for frame in video.frame_ids]
    for frame, labels in zip(video.frame_ids, truth, strict=True):
        if labels.shape != truth[0].shape:
            raise size_error(
                dataset.truth_file(frame), labels, truth[0], "the first annotation of its sequence"
            )
    return truth


def _video_units(video: Video, truth: Sequence[Array], results: Path) -> Array:
    """Return the davis_units of a sequence, (object, 7). Raises DatasetError."""
    if not (results / video.name).is_dir():
        raise DatasetError(
            f"{results}: expected a folder {video.name}/ with the masks of this sequence, found "
            "none"
        )
    predicted = [
        _mask(results / f"{frame}.png", video, truth[i])
        for i, frame in enumerate(video.frame_ids[1:-1], 1)
    ]
    # The first and the last frame are not scored: any mask serves.
    ends = np.zeros_like(truth[0])
    return davis_units(*object_frames([ends, *predicted, ends], truth))


def _mask(path: Path, video: Video, truth: Array) -> Array:
    if not path.is_file():
        raise DatasetError(
            f"{path}: expected the mask of this frame, found nothing there; predict every frame"
        )
    mask = read_label_map(path)
    if mask.shape != truth.shape:
        raise size_error(path, mask, truth, "its annotation")
    highest = int(mask.max(initial=0))
    if highest > video.n_objects:
        raise DatasetError(
            f"{path}: expected ids 0 to {video.n_objects}, the objects of {video.name}'s first "
            f"annotation, found {highest}; the official evaluation ends here too"
        )
    return mask


def _scores(sums: Array) -> dict[str, Array]:
    """Return davis_scores in the order of a report: means before recall and decay."""
    scores = davis_scores(sums)
    return {name: scores[name] for name in ("j_and_f", "j_mean", "f_mean", *scores)}
