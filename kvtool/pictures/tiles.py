"""A tile for each sampling unit that `kvtool show` draws: what a block predicts, over the picture,
and the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kvtool.datasets.base import ImageRef
from kvtool.datasets.images import load_image
from kvtool.datasets.masks import VOID
from kvtool.errors import UsageError
from kvtool.metrics.correspondence import box_side_px, correct_keypoints
from kvtool.metrics.segmentation import binary_counts
from kvtool.metrics.video import region_similarity
from kvtool.pictures.contact_sheet import GAP_PX, MARGIN_PX, ContactSheet, Tile
from kvtool.pictures.overlays import (
    draw_masks,
    draw_matches,
    fit,
    grey,
    mask_marks,
    match_marks,
    side_by_side,
)
from kvtool.result import Row
from kvtool.tasks.base import Array
from kvtool.tasks.semantic_correspondence import PRIMARY_ALPHA

WIDTH_PX = 1960
"""Of a sheet, margins included."""
LARGEST_PX = 640
"""The longer side of a picture on it."""

NEAR = f"at most {PRIMARY_ALPHA:g} of the box's longer side from the truth", "further from it"

Refs = Mapping[str, ImageRef]


class Units(NamedTuple):
    """What a task saved of a block: the task, a record for each file, and the folder with the
    files."""

    task: Any
    records: list[Row]
    folder: Path


Draw = Callable[[int], Tile]
"""Makes the tile of a unit, given the longer side of its pictures in px."""


def sheet_of(
    units: Units, refs: Refs, images: Collection[str], limit: int, title: str
) -> tuple[ContactSheet, int, int]:
    """A contact sheet of up to `limit` units, evenly chosen; how many are on it, and how many there
    are.

    images: ids that were asked for; of a sequence, its frames.
    """
    panels = 2
    legend = mask_marks()
    if units.task.name == "semantic-correspondence":
        found = _pairs(units, refs)
        legend = match_marks(*NEAR)
    elif units.task.name == "temporal-correspondence":
        found = _frames(units, refs, images)
        panels = 1
        legend = mask_marks(_n_objects(units))
    elif hasattr(units.task, "draw"):
        found = [partial(_drawn, units, refs, record) for record in units.records]
        panels = 1
        legend = []
    elif hasattr(units.task, "truth"):
        found = [partial(_mask, units, refs, record) for record in units.records]
    else:
        raise UsageError(
            f"show: {units.task.name} draws no pictures: its class has neither draw nor truth"
        )
    chosen = spread(found, limit)
    columns = columns_of(len(chosen), panels)
    side_px = (WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // (
        columns * panels
    ) - GAP_PX // 2
    tiles = [draw(min(LARGEST_PX, side_px)) for draw in chosen]
    return ContactSheet(tiles, columns, title, legend), len(tiles), len(found)


def columns_of(n_tiles: int, panels: int) -> int:
    """Tiles in a row: few are large."""
    most = 6 // panels
    return min(most, 1 if n_tiles == 1 else 2 if n_tiles <= 4 else 3 if n_tiles <= 9 else 4)


def spread(records: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, evenly; the first is among them."""
    if len(records) <= count:
        return list(records)
    return [records[index * len(records) // count] for index in range(count)]


def _mask(units: Units, refs: Refs, record: Row, side_px: int) -> Tile:
    """The truth's outline on the left, the predicted mask with it on the right."""
    image = str(record.get("image") or record["query"])
    said = np.asarray(Image.open(units.folder / record["file"])) > 0
    truth = units.task.truth(record)
    picture = fit(load_image(refs[image]), side_px)
    both = side_by_side([draw_masks(picture, None, truth), draw_masks(grey(picture), said, truth)])
    return Tile(both, (f"{_words(units, record)} · IoU {_iou(said, truth)}", _place(image, record)))


def _drawn(units: Units, refs: Refs, record: Row, side_px: int) -> Tile:
    """What a task of a plug-in draws of itself."""
    picture = fit(load_image(refs[record["image"]]), side_px)
    return Tile(units.task.draw(picture, record, units.folder), (str(record["image"]),))


def _words(units: Units, record: Row) -> str:
    """What was to be found."""
    if "sent" in record:
        return f'"{record["sent"]}"'
    if "class_id" in record:
        return str(units.task.dataset.name_of_class(record["class_id"]))
    return str(record["category"])


def _place(image: str, record: Row) -> str:
    return f"{image}, episode {record['episode']}" if "episode" in record else image


def _iou(said: Array, truth: Array) -> str:
    """Of the foreground, without void."""
    intersection, union = binary_counts(said, truth == 1, truth != VOID)
    return f"{intersection[1] / union[1]:.2f}" if union[1] else "undefined"


def _pairs(units: Units, refs: Refs) -> list[Draw]:
    (record,) = units.records
    lines = (units.folder / record["file"]).read_text(encoding="utf-8").splitlines()
    return [partial(_pair, refs, json.loads(line)) for line in lines]


def _pair(refs: Refs, answer: Row, side_px: int) -> Tile:
    """Two images and the points of the first that were looked for in the second."""
    ids = [
        f"{answer['category']}/{Path(answer[name]).stem}" for name in ("src_imname", "trg_imname")
    ]
    source, target = (load_image(refs[image]) for image in ids)
    points = np.array(answer["prd_kps"]), np.array(answer["trg_kps"])
    right = correct_keypoints(*points, box_side_px(answer["trg_bndbox"]), [PRIMARY_ALPHA])[
        0
    ].tolist()
    drawn = draw_matches(
        (fit(source, side_px), fit(target, side_px)),
        (source.size, target.size),
        answer["src_kps"],
        answer["prd_kps"],
        answer["trg_kps"],
        right,
    )
    return Tile(
        drawn,
        (f"{answer['category']} · {sum(right)} of {len(right)} right", f"{ids[0]} to {ids[1]}"),
    )


def _frames(units: Units, refs: Refs, images: Collection[str]) -> list[Draw]:
    """The frames asked for, after the first one of their sequence, whose masks were given."""
    first = {video.frame_ids[0] for video in units.task.videos}
    shown = [
        record for record in units.records if record["image"] in first or record["image"] in images
    ]
    return [partial(_frame, units, refs, record, record["image"] in first) for record in shown]


def _frame(units: Units, refs: Refs, record: Row, is_given: bool, side_px: int) -> Tile:
    said = np.asarray(Image.open(units.folder / record["file"]))
    truth = units.task.truth(record)
    picture = grey(fit(load_image(refs[record["image"]]), side_px))
    drawn = draw_masks(picture, said, None if is_given else truth)
    return Tile(drawn, (record["image"], "given" if is_given else _similarity(said, truth)))


def _n_objects(units: Units) -> int:
    shown = {record["image"] for record in units.records}
    return max(int(video.n_objects) for video in units.task.videos if video.frame_ids[0] in shown)


def _similarity(said: Array, truth: Array | None) -> str:
    """J of each object."""
    if truth is None:
        return "no annotation"
    objects = range(1, max(int(said.max()), int(truth[truth != VOID].max(initial=0))) + 1)
    return "J " + ", ".join(
        f"{region_similarity(said == number, truth == number):.2f}" for number in objects
    )
