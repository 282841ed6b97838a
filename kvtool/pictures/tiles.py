"""A tile for each sampling unit that `kvtool show` and the page draw: the prediction over the
picture, and the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

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
from kvtool.pictures.unseen import any_unseen, mark_unseen, unseen_mark
from kvtool.result import Row
from kvtool.tasks.base import Array
from kvtool.tasks.saved import Saved, drawing_of, given_images
from kvtool.tasks.semantic_correspondence import PRIMARY_ALPHA
from kvtool.tasks.spread import spread

WIDTH_PX = 1960
"""The width of a sheet, margins included."""
LARGEST_PX = 640
"""The longer side of a picture on it."""

MATCH_LABELS = (
    f"at most {PRIMARY_ALPHA:g} of the box's longer side from the truth",
    "further from it",
)

Refs = Mapping[str, ImageRef]


Draw = Callable[[int], Tile]
"""Makes the tile of a sampling unit, given the longer side of its pictures in px."""


class Drawings(NamedTuple):
    """How the sampling units of a block are drawn.

    Args:
        units: a function that makes its tile for each.
        panels: pictures side by side in a tile.
        legend: marks in them and what these mean.
    """

    units: list[Draw]
    panels: int
    legend: list[tuple[Image.Image, str]]


def sheet_of(
    saved: Saved, refs: Refs, images: Collection[str], limit: int, title: str
) -> tuple[ContactSheet, int, int]:
    """Return a contact sheet of up to `limit` units, evenly chosen; their number, and that of all
    units.

    `images` are the ids that were asked for; of a sequence, its frames.
    """
    drawings = drawings_of(saved, refs, images)
    drawn_units = spread(drawings.units, limit)
    columns = columns_of(len(drawn_units), drawings.panels)
    # The panels of a row share the sheet's width.
    side_px = (WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // (
        columns * drawings.panels
    ) - GAP_PX // 2
    tiles = [draw(min(LARGEST_PX, side_px)) for draw in drawn_units]
    sheet = ContactSheet(tiles, columns, title, drawings.legend)
    return sheet, len(tiles), len(drawings.units)


def drawings_of(saved: Saved, refs: Refs, images: Collection[str]) -> Drawings:
    """Return the drawings of what a task saved of some images.

    A task that has `draw` draws itself; of others `drawing` says what their files hold. Raises
    UsageError for a task that says neither.
    """
    drawing = drawing_of(saved.task)
    if drawing is None or drawing not in DRAWINGS:
        raise UsageError(
            f"{saved.task.name} draws no pictures: its class has neither draw nor truth, and its "
            f"drawing is none of {', '.join(DRAWINGS)}"
        )
    drawings = DRAWINGS[drawing](saved, refs, images)
    # The mark stands in the legend only where something was hatched.
    spans = {image: span for image in saved.samples if (span := saved.span(image)) is not None}
    sizes = {image: sample.image_wh_px for image, sample in saved.samples.items()}
    if any_unseen(spans, sizes):
        return drawings._replace(legend=[*drawings.legend, unseen_mark()])
    return drawings


def _seen(saved: Saved, refs: Refs, image: str) -> Image.Image:
    """Return a picture with what the model never saw of it hatched."""
    return mark_unseen(load_image(refs[image]), saved.span(image))


def columns_of(n_tiles: int, panels: int) -> int:
    """Return the number of tiles in a row: few are large."""
    columns = 4
    for columns_up_to, n in ((1, 1), (2, 4), (3, 9)):
        if n_tiles <= n:
            columns = columns_up_to
            break
    return min(6 // panels, columns)


def _mask(saved: Saved, refs: Refs, record: Row, side_px: int) -> Tile:
    """Draw the truth's outline on the left, the predicted mask with it on the right."""
    image = str(record.get("image") or record["query"])
    predicted = np.asarray(Image.open(saved.folder / record["file"])) > 0
    truth = saved.task.truth(record)
    picture = fit(_seen(saved, refs, image), side_px)
    panels = side_by_side(
        [draw_masks(picture, None, truth), draw_masks(gray(picture), predicted, truth)]
    )
    return Tile(
        panels, (f"{_words(saved, record)} · IoU {_iou(predicted, truth)}", _place(image, record))
    )


def _drawn(saved: Saved, refs: Refs, record: Row, side_px: int) -> Tile:
    """What a task of a plug-in draws of itself."""
    picture = fit(_seen(saved, refs, record["image"]), side_px)
    return Tile(saved.task.draw(picture, record, saved.folder), (str(record["image"]),))


def _words(saved: Saved, record: Row) -> str:
    """Say what was to be segmented."""
    if "sent" in record:
        return f'"{record["sent"]}"'
    if "class_id" in record:
        return str(saved.task.dataset.name_of_class(record["class_id"]))
    return str(record["category"])


def _place(image: str, record: Row) -> str:
    return f"{image}, episode {record['episode']}" if "episode" in record else image


def _iou(predicted: Array, truth: Array) -> str:
    """Return the IoU of the foreground, without void."""
    intersection, union = binary_counts(predicted, truth == 1, truth != VOID)
    return f"{intersection[1] / union[1]:.2f}" if union[1] else "undefined"


def _own(saved: Saved, refs: Refs, _images: Collection[str]) -> Drawings:
    """Let a task draw each record itself."""
    units: list[Draw] = [partial(_drawn, saved, refs, record) for record in saved.records]
    return Drawings(units, 1, [])


def _masks(saved: Saved, refs: Refs, _images: Collection[str]) -> Drawings:
    """Draw one mask of each record."""
    units: list[Draw] = [partial(_mask, saved, refs, record) for record in saved.records]
    return Drawings(units, 2, mask_marks())


def _matches(saved: Saved, refs: Refs, _images: Collection[str]) -> Drawings:
    """Draw the pairs of the only file, a line each."""
    (record,) = saved.records
    pairs = {pair.id: (pair.src_id, pair.trg_id) for pair in saved.task.pairs}
    lines = (saved.folder / record["file"]).read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line) for line in lines]
    units: list[Draw] = [
        partial(_pair, saved, refs, pairs[row["filename"]], row) for row in answers
    ]
    return Drawings(units, 2, match_marks(*MATCH_LABELS))


def _pair(saved: Saved, refs: Refs, ids: tuple[str, str], answer: Row, side_px: int) -> Tile:
    """Draw two images and the points of the first that were looked for in the second."""
    # Both in pixels of the originals, as the points are.
    source, target = (_seen(saved, refs, image) for image in ids)
    points = np.array(answer["prd_kps"]), np.array(answer["trg_kps"])
    # Right and wrong as the score has it, at its primary alpha.
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


def _objects(saved: Saved, refs: Refs, images: Collection[str]) -> Drawings:
    """Draw the objects of each image that was asked for; those of a frame whose masks were given as
    such."""
    first_frames = given_images(saved.task)
    records = [record for record in saved.records if record["image"] in images]
    units: list[Draw] = [
        partial(_object_ids, saved, refs, record, record["image"] in first_frames)
        for record in records
    ]
    masks = (np.asarray(Image.open(saved.folder / record["file"])) for record in records)
    n_objects = max((int(mask.max()) for mask in masks), default=1)
    return Drawings(units, 1, mask_marks(n_objects))


def _object_ids(saved: Saved, refs: Refs, record: Row, is_given: bool, side_px: int) -> Tile:
    predicted = np.asarray(Image.open(saved.folder / record["file"]))
    truth = saved.task.truth(record)
    picture = gray(fit(_seen(saved, refs, record["image"]), side_px))
    masks = draw_masks(picture, predicted, None if is_given else truth)
    return Tile(masks, (record["image"], "given" if is_given else _similarity(predicted, truth)))


def _similarity(predicted: Array, truth: Array | None) -> str:
    """Return J of each object."""
    if truth is None:
        return "no annotation"
    # Objects of either: one that the other lacks has J 0.
    objects = range(1, max(int(predicted.max()), int(truth[truth != VOID].max(initial=0))) + 1)
    return "J " + ", ".join(
        f"{region_similarity(predicted == number, truth == number):.2f}" for number in objects
    )


DRAWINGS: Mapping[str, Callable[[Saved, Refs, Collection[str]], Drawings]] = {
    "itself": _own,
    "masks": _masks,
    "matches": _matches,
    "objects": _objects,
}
"""By what the files of a task hold, see kvtool.tasks.saved.drawing_of."""
