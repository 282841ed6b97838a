"""Example pictures of what blocks predict: a few units of a probe's task, predicted again from the
store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kvtool.datasets.base import DatasetBase, ImageRef
from kvtool.datasets.images import load_image
from kvtool.errors import UsageError
from kvtool.features.layers import Layer
from kvtool.metrics.correspondence import box_side_px, correct_keypoints
from kvtool.pictures.overlays import Mask, draw_masks, draw_matches, fit
from kvtool.pictures.thumbnails import Drawn, Pictures
from kvtool.result import Result, Row, is_summary
from kvtool.store import Run
from kvtool.tasks import TASKS
from kvtool.tasks.co_segmentation import CoSegmentation
from kvtool.tasks.truth import sizes_of
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch

SPREAD = 3
"""Units predicted for each that is drawn: neighbors in a list are often about one image."""
ALPHA = 0.1
SIDE_PX = 192

BlockKey = tuple[Kind, int, int]


def draw_examples(
    run: Run,
    dataset: DatasetBase,
    result: Result,
    count: int,
    n_blocks: int,
    device: torch.device,
    pictures: Pictures,
) -> dict[BlockKey, list[Drawn]]:
    """Return up to `count` pictures of each of the n_blocks best blocks, the best of each kind
    first.

    Masks are filled over the image and the truth outlined; matches are lines between two images.
    Blocks that the run lacks are left out. Raises KvtoolError where the data set's files are not as
    they should be.
    """
    task = _task(run, dataset, result, count, device)
    refs = {ref.id: ref for ref in dataset.images()}
    draw = _drawing_of(task)
    examples: dict[BlockKey, list[Drawn]] = {}
    for block in _leading_blocks(result, n_blocks):
        kind, number, head = block
        if kind not in run.config.kinds or number not in run.config.stored_layers(kind):
            continue
        layer = Layer(run, kind, number, [head], device)
        with tempfile.TemporaryDirectory(prefix="kvtool-report-") as folder:
            records = task.save(layer, 0, Path(folder))
            block_pictures = draw(task, dataset, refs, records, Path(folder), count)
            thumbnails = [pictures.add(image, caption) for image, caption in block_pictures]
        examples[block] = [thumbnail for thumbnail in thumbnails if thumbnail is not None]
    return {block: block_pictures for block, block_pictures in examples.items() if block_pictures}


def _drawing_of(task: Any) -> Callable[..., Drawing]:
    """How a task's predictions are drawn. Raises UsageError for a task of a plug-in that draws
    none."""
    if task.name in DRAW or task.name in TRUTH:
        return DRAW.get(task.name, _masks)
    if hasattr(task, "draw"):
        return _drawn
    raise UsageError(f"{task.name} draws no pictures: its class has no draw")


def _task(run: Run, dataset: DatasetBase, result: Result, count: int, device: torch.device) -> Any:
    """Return the task with few units, else as it was scored.

    Images of one class are segmented together: all of the first class.
    """
    kind = TASKS.load(str(result.task))
    limits = {"co-segmentation": result.config.get("limit"), "temporal-correspondence": 1}
    options = {**result.config.get("options", {}), "seed": result.config.get("seed", 0)}
    options |= {"limit": limits.get(str(result.task), SPREAD * count), "all_classes": False}
    parameters = signature(kind).parameters
    task_options = {name: value for name, value in options.items() if name in parameters}
    task: Any = kind(dataset, sizes_of(run), device, **task_options)
    if isinstance(task, CoSegmentation):
        task.groups = dict(list(task.groups.items())[:1])
    return task


def _leading_blocks(result: Result, count: int) -> list[BlockKey]:
    """Return the best block of each kind, the kind of the best first; then the others by score."""
    rows = result.ranked([row for row in result.rows if is_summary(row)])
    first = {row["kind"]: row for row in reversed(rows)}
    ordered = [row for row in (result.best, *first.values(), *rows) if row is not None]
    return list(dict.fromkeys((row["kind"], row["layer"], row["kv_head"]) for row in ordered))[
        :count
    ]


def _spread(records: Sequence[Any], count: int) -> list[Any]:
    """Return `count` records, evenly chosen."""
    if len(records) <= count:
        return list(records)
    return [records[round((index + 0.5) * len(records) / count - 0.5)] for index in range(count)]


Drawing = Iterator[tuple[Image.Image, str]]
Refs = Mapping[str, ImageRef]


def _masks(
    task: Any, dataset: Any, refs: Refs, records: Sequence[Row], folder: Path, count: int
) -> Drawing:
    truth = TRUTH[task.name]
    for record in _spread(records, count):
        image = str(record.get("image") or record["query"])
        predicted = np.asarray(Image.open(folder / record["file"])) > 0
        caption = [
            record.get("sent") or record.get("category") or _class_name(dataset, record),
            image,
        ]
        yield (
            draw_masks(
                fit(load_image(refs[image]), SIDE_PX), predicted, truth(task, dataset, record)
            ),
            " · ".join(str(part) for part in caption if part),
        )


def _class_name(dataset: Any, record: Row) -> str:
    return str(dataset.name_of_class(record["class_id"])) if "class_id" in record else ""


def _frames(
    _task: Any, dataset: Any, refs: Refs, records: Sequence[Row], folder: Path, count: int
) -> Drawing:
    """Draw frames of the first sequence, without the annotated first one."""
    for record in _spread(records[1:], count):
        predicted = np.asarray(Image.open(folder / record["file"]))
        frame = record["image"]
        truth = dataset.label_map(frame) if dataset.has_label_map(frame) else None
        yield draw_masks(fit(load_image(refs[frame]), SIDE_PX), predicted, truth), str(frame)


def _matches(
    task: Any, _dataset: Any, refs: Refs, records: Sequence[Row], folder: Path, count: int
) -> Drawing:
    lines = (folder / records[0]["file"]).read_text(encoding="utf-8").splitlines()
    for pair, line in _spread(list(zip(task.pairs, map(json.loads, lines), strict=True)), count):
        predicted = np.array(line["prd_kps"])
        true = np.array(line["trg_kps"])
        right = correct_keypoints(predicted, true, box_side_px(line["trg_bndbox"]), [ALPHA])[
            0
        ].tolist()
        images = (load_image(refs[pair.src_id]), load_image(refs[pair.trg_id]))
        caption = (
            f"{pair.category} · {pair.src_id} to {pair.trg_id}: {sum(right)} of {len(right)} found"
        )
        small = (fit(images[0], SIDE_PX), fit(images[1], SIDE_PX))
        points = (line["src_kps"], line["prd_kps"], line["trg_kps"])
        yield draw_matches(small, (images[0].size, images[1].size), *points, right), caption


def _drawn(
    task: Any, _dataset: Any, refs: Refs, records: Sequence[Row], folder: Path, count: int
) -> Drawing:
    """What a task of a plug-in draws of itself."""
    for record in _spread(records, count):
        picture = fit(load_image(refs[record["image"]]), SIDE_PX)
        yield task.draw(picture, record, folder), str(record["image"])


DRAW: Mapping[str, Callable[..., Drawing]] = {
    "temporal-correspondence": _frames,
    "semantic-correspondence": _matches,
}


def _semantic_truth(task: Any, _dataset: Any, record: Row) -> Mask:
    """Return the mask of the class that was probed."""
    truth: Mask = task.truth(record)
    return truth


def _referred(task: Any, dataset: Any, record: Row) -> Mask:
    expression = next(entry for entry in task.expressions if entry.sent_id == record["sent_id"])
    mask: Mask = dataset.object_mask(expression)
    return mask


TRUTH: Mapping[str, Callable[[Any, Any, Row], Mask]] = {
    "foreground-segmentation": lambda _, dataset, record: dataset.class_mask(
        record["query"], record["class_id"]
    ),
    "co-segmentation": lambda _, dataset, record: dataset.group_mask(
        record["image"], record["category"]
    ),
    "semantic-segmentation": _semantic_truth,
    "referring-expression": _referred,
}
