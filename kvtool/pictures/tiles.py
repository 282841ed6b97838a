"""A tile for each sampling unit that `kvtool show` draws: the prediction over the picture, and the
truth."""

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
    gray,
    mask_marks,
    match_marks,
    side_by_side,
)
from kvtool.result import Row
from kvtool.tasks.base import Array
from kvtool.tasks.semantic_correspondence import PRIMARY_ALPHA

WIDTH_PX = 1960
"""The width of a sheet, margins included."""
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
    """Return a contact sheet of up to `limit` units, evenly chosen; their number, and that of all
    units.

    `images` are the ids that were asked for; of a sequence, its frames.
    """
    panels = 2
    legend = mask_marks()
    if units.task.name == "semantic-correspondence":
        units_to_draw = _pairs(units, refs)
        legend = match_marks(*NEAR)
    elif units.task.name == "temporal-correspondence":
        units_to_draw = _frames(units, refs, images)
        panels = 1
        legend = mask_marks(_n_objects(units))
    elif hasattr(units.task, "draw"):
        units_to_draw = [partial(_drawn, units, refs, record) for record in units.records]
        panels = 1
        legend = []
    elif hasattr(units.task, "truth"):
        units_to_draw = [partial(_mask, units, refs, record) for record in units.records]
    else:
        raise UsageError(
            f"show: {units.task.name} draws no pictures: its class has neither draw nor truth"
        )
    drawn_units = spread(units_to_draw, limit)
    columns = columns_of(len(drawn_units), panels)
    # The panels of a row share the sheet's width.
    side_px = (WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // (
        columns * panels
    ) - GAP_PX // 2
    tiles = [draw(min(LARGEST_PX, side_px)) for draw in drawn_units]
    return ContactSheet(tiles, columns, title, legend), len(tiles), len(units_to_draw)


def columns_of(n_tiles: int, panels: int) -> int:
    """Return the number of tiles in a row: few are large."""
    columns = 4
    for columns_up_to, n in ((1, 1), (2, 4), (3, 9)):
        if n_tiles <= n:
            columns = columns_up_to
            break
    return min(6 // panels, columns)


def spread(records: Sequence[Any], count: int) -> list[Any]:
    """Return `count` records, evenly chosen; the first is among them."""
    if len(records) <= count:
        return list(records)
    return [records[index * len(records) // count] for index in range(count)]


def _mask(units: Units, refs: Refs, record: Row, side_px: int) -> Tile:
    """Draw the truth's outline on the left, the predicted mask with it on the right."""
    image = str(record.get("image") or record["query"])
    predicted = np.asarray(Image.open(units.folder / record["file"])) > 0
    truth = units.task.truth(record)
    picture = fit(load_image(refs[image]), side_px)
    panels = side_by_side(
        [draw_masks(picture, None, truth), draw_masks(gray(picture), predicted, truth)]
    )
    return Tile(
        panels, (f"{_words(units, record)} · IoU {_iou(predicted, truth)}", _place(image, record))
    )


def _drawn(units: Units, refs: Refs, record: Row, side_px: int) -> Tile:
    """What a task of a plug-in draws of itself."""
    picture = fit(load_image(refs[record["image"]]), side_px)
    return Tile(units.task.draw(picture, record, units.folder), (str(record["image"]),))


def _words(units: Units, record: Row) -> str:
    """Say what was to be segmented."""
    if "sent" in record:
        return f'"{record["sent"]}"'
    if "class_id" in record:
        return str(units.task.dataset.name_of_class(record["class_id"]))
    return str(record["category"])


def _place(image: str, record: Row) -> str:
    return f"{image}, episode {record['episode']}" if "episode" in record else image


def _iou(predicted: Array, truth: Array) -> str:
    """Return the IoU of the foreground, without void."""
    intersection, union = binary_counts(predicted, truth == 1, truth != VOID)
    return f"{intersection[1] / union[1]:.2f}" if union[1] else "undefined"


def _pairs(units: Units, refs: Refs) -> list[Draw]:
    (record,) = units.records
    lines = (units.folder / record["file"]).read_text(encoding="utf-8").splitlines()
    return [partial(_pair, refs, json.loads(line)) for line in lines]


def _pair(refs: Refs, answer: Row, side_px: int) -> Tile:
    """Draw two images and the points of the first that were looked for in the second."""
    ids = [
        f"{answer['category']}/{Path(answer[name]).stem}" for name in ("src_imname", "trg_imname")
    ]
    source, target = (load_image(refs[image]) for image in ids)
    points = np.array(answer["prd_kps"]), np.array(answer["trg_kps"])
    right = correct_keypoints(*points, box_side_px(answer["trg_bndbox"]), [PRIMARY_ALPHA])[
        0
    ].tolist()
    matches = draw_matches(
        (fit(source, side_px), fit(target, side_px)),
        (source.size, target.size),
        answer["src_kps"],
        answer["prd_kps"],
        answer["trg_kps"],
        right,
    )
    return Tile(
        matches,
        (f"{answer['category']} · {sum(right)} of {len(right)} right", f"{ids[0]} to {ids[1]}"),
    )


def _frames(units: Units, refs: Refs, images: Collection[str]) -> list[Draw]:
    """Draw the frames asked for, after the first one of their sequence, whose masks were given."""
    first = {video.frame_ids[0] for video in units.task.videos}
    records = [
        record for record in units.records if record["image"] in first or record["image"] in images
    ]
    return [partial(_frame, units, refs, record, record["image"] in first) for record in records]


def _frame(units: Units, refs: Refs, record: Row, is_given: bool, side_px: int) -> Tile:
    predicted = np.asarray(Image.open(units.folder / record["file"]))
    truth = units.task.truth(record)
    picture = gray(fit(load_image(refs[record["image"]]), side_px))
    masks = draw_masks(picture, predicted, None if is_given else truth)
    return Tile(masks, (record["image"], "given" if is_given else _similarity(predicted, truth)))


def _n_objects(units: Units) -> int:
    images = {record["image"] for record in units.records}
    return max(int(video.n_objects) for video in units.task.videos if video.frame_ids[0] in images)


def _similarity(predicted: Array, truth: Array | None) -> str:
    """Return J of each object."""
    if truth is None:
        return "no annotation"
    objects = range(1, max(int(predicted.max()), int(truth[truth != VOID].max(initial=0))) + 1)
    return "J " + ", ".join(
        f"{region_similarity(predicted == number, truth == number):.2f}" for number in objects
    )
