"""SPair-71k: predicted keypoints, scored as HPF and the Semantic-Correspondence survey do (protocol
5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.asking.records import (
    FilePath,
    need,
    need_numbers,
    need_text,
    none_left,
    read_records,
    scored,
)
from kvtool.errors import DatasetError
from kvtool.metrics.correspondence import (
    ALPHAS,
    box_side_px,
    correct_keypoints,
    pck_scores,
    pck_units,
)
from kvtool.progress import Progress
from kvtool.result import MAX_REASONS, Result, Row, versions
from kvtool.stats.bootstrap import Array, count_clusters

PRIMARY_ALPHA = 0.1
TRUTH_FIELDS = ("category", "trg_kps", "trg_bndbox")
IMAGE_FIELDS = ("src_imname", "trg_imname")
"""Fields of SPair's annotation that name a pair's images; files of other tools may lack them."""

Truth = tuple[str, Array, float]
"""A pair's category, target points (keypoint, 2) and the longer side of its box, in pixels."""


@dataclass(frozen=True)
class Answer:
    """A pair's predicted and true points (keypoint, 2), in pixels of the original target image.

    `images` are the ids of its source and target, where the record names both.
    """

    category: str
    predicted_px: Array
    target_px: Array
    box_side_px: float
    images: tuple[str, str] | None


def score_spair(answers: FilePath, *, seed: int = 0, progress: Progress | None = None) -> Result:
    """Score pck_image and pck_point at alpha 0.05, 0.1 and 0.15, of all pairs and of each category.

    Where records name the images of their pairs, images are resampled for the intervals, each
    category by itself, as for those of `kvtool probe`; else pairs. Pairs without a keypoint, or
    whose truth cannot be used, are left out and counted. Raises
    DatasetError that names file and line of any pair whose prediction cannot be used, and where no
    pair remains.

    Args:
        answers: JSON lines or a JSON list of pairs with SPair's fields category, trg_kps and
            trg_bndbox, and prd_kps, the predicted points in the order of trg_kps, (x, y) in pixels
            of the original target image; src_imname and trg_imname where they are there.
        seed: the random seed of the intervals.
        progress: called with the number of pairs and the file's name.
    """
    path = Path(answers)
    pairs, skipped = _read_pairs(path)
    if not pairs:
        raise none_left(f"{path}: pairs with keypoints", skipped)
    if progress is not None:
        progress(len(pairs), path.name)
    resampled = "pairs" if _images(pairs) is None else "images"
    return Result(
        command="score",
        task="spair",
        metric="pck_image",
        n=len(pairs),
        rows=list(_rows(pairs, seed)),
        config={"answers": str(answers), "alpha": PRIMARY_ALPHA, "seed": seed}
        | {"resampled": resampled},
        versions=versions(),
        n_skipped=len(skipped),
        skipped=skipped[:MAX_REASONS],
    )


def _read_pairs(path: Path) -> tuple[list[Answer], list[str]]:
    """Read the pairs that can be scored, and a line for each of the others. Raises DatasetError."""
    pairs = []
    skipped = []
    for location, record in read_records(path):
        try:
            truth = _truth(record, location)
        except DatasetError as error:
            skipped.append(str(error))
            continue
        # Truth that cannot be used leaves a pair out; a prediction that cannot ends the scoring.
        pair = _answer(record, truth, location)
        if len(pair.target_px):
            pairs.append(pair)
        else:
            skipped.append(f"{location}: no keypoint")
    return pairs, skipped


def _truth(record: dict[str, Any], location: str) -> Truth:
    """Return a pair's annotation. Raises DatasetError where it cannot be used."""
    category, target, box = need(record, TRUTH_FIELDS, location)
    x0, y0, x1, y1 = need_numbers(box, 4, "trg_bndbox", location)
    if x1 < x0 or y1 < y0:
        raise DatasetError(
            f"{location}: expected trg_bndbox as x1, y1, x2, y2 from top left, found {box}"
        )
    points = _points(target, "trg_kps", location)
    return need_text(category, "category", location), points, box_side_px((x0, y0, x1, y1))


def _answer(record: dict[str, Any], truth: Truth, location: str) -> Answer:
    """Return a pair's prediction and truth. Raises DatasetError where the prediction cannot be
    used."""
    category, true, box_side = truth
    (points,) = need(record, ("prd_kps",), location)
    predicted = _points(points, "prd_kps", location)
    if len(true) != len(predicted):
        raise DatasetError(
            f"{location}: expected as many prd_kps as trg_kps, found {len(predicted)} for "
            f"{len(true)}"
        )
    return Answer(category, predicted, true, box_side, _image_ids(record, category))


def _image_ids(record: dict[str, Any], category: str) -> tuple[str, str] | None:
    """Return the ids of a pair's images as the data set has them; None where one is not named."""
    source, target = (record.get(name) for name in IMAGE_FIELDS)
    if not (isinstance(source, str) and isinstance(target, str)):
        return None
    # Without suffix, so that images sort, and are drawn, as those of a probe.
    return f"{category}/{Path(source).stem}", f"{category}/{Path(target).stem}"


def _images(pairs: Sequence[Answer]) -> Array | None:
    """Return the images that pairs join, (pair, 2); None where no record names them.

    A pair that does not say is taken to share its images with no other.
    """
    if all(pair.images is None for pair in pairs):
        return None
    return np.array(
        [pair.images or (f"{index} source", f"{index} target") for index, pair in enumerate(pairs)]
    )


def _points(value: Any, name: str, location: str) -> Array:
    """Return points (keypoint, 2) float64. Raises DatasetError."""
    if not isinstance(value, list):
        raise DatasetError(
            f"{location}: expected {name} to be a list of points, found {type(value).__name__}"
        )
    points = [
        need_numbers(point, 2, f"{name}[{number}]", location) for number, point in enumerate(value)
    ]
    return np.array(points, np.float64).reshape(-1, 2)


def _rows(pairs: list[Answer], seed: int) -> Iterator[Row]:
    """Yield the summary at alpha 0.1, then every alpha, of all pairs and of each category."""
    # Whether each keypoint is within alpha of the box's longer side, counted for each alpha.
    right = [
        correct_keypoints(pair.predicted_px, pair.target_px, pair.box_side_px).sum(axis=-1)
        for pair in pairs
    ]
    units = pck_units(np.stack(right, axis=-1), np.array([len(pair.target_px) for pair in pairs]))
    categories = np.array([pair.category for pair in pairs])
    # Pairs with an image in common are dependent: images are resampled where they are known.
    images = _images(pairs)
    strata = None if images is None else categories
    common: dict[str, Any] = {"strata": strata, "clusters": images, "seed": seed}
    yield _row({}, units[ALPHAS.index(PRIMARY_ALPHA)], **common)
    for alpha, alpha_units in zip(ALPHAS, units, strict=True):
        yield _row({"alpha": alpha}, alpha_units, **common)
        # A category alone has no strata.
        for category in np.unique(categories):
            members = categories == category
            yield _row(
                {"alpha": alpha, "category": str(category)},
                alpha_units[members],
                clusters=None if images is None else images[members],
                seed=seed,
            )


def _row(labels: Row, units: Array, clusters: Array | None, **resampling: Any) -> Row:
    n_correct, n_keypoints = (int(column) for column in units[:, 2:].sum(axis=0))
    counts = {"n": len(units), "n_keypoints": n_keypoints, "n_correct": n_correct}
    # As of a probe: how many images were resampled, where units share them.
    if clusters is not None:
        counts["n_resampled"] = count_clusters(len(units), clusters)
    return {**labels, **scored(units, pck_scores, clusters=clusters, **resampling), **counts}
