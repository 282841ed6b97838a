"""The predictions of one block on disk, in the benchmarks' own result formats (docs/output.md has
the table).

A folder appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kvtool.errors import KvtoolError, UsageError
from kvtool.features.layers import Layer
from kvtool.outputs import check_folder, output_folder
from kvtool.result import Result, Row
from kvtool.store.places import places_of, without_places

if TYPE_CHECKING:
    import torch

    from kvtool.tasks.base import BlockPlan, Task

Array = np.ndarray[Any, Any]
SCHEMA = "kvtool.predictions/1"
INDEX = "predictions.json"
"""Says which block of which run predicted, and what each file is about."""


def check_free(folder: Path) -> None:
    """Raises UsageError where predictions would overwrite something, StoreError where they cannot
    be written.
    """
    check_folder(folder, "--save-predictions")
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        contents = "files in it" if folder.is_dir() else "a file"
        raise UsageError(
            f"--save-predictions: expected a new or empty folder, found {contents}: {folder}; "
            "remove it or name another"
        )


def save_best(
    task: Task, plan: BlockPlan, result: Result, device: torch.device, folder: Path
) -> None:
    """Write the predictions of a result's best block, and INDEX.

    Raises UsageError where the folder is not free, KvtoolError where no block has a score or the
    disk refuses.
    """
    # The folder may have been filled while blocks were scored.
    check_free(folder)
    if result.best is None:
        raise KvtoolError(
            f"{result.task}: {result.metric} of no block is defined, so there is no best block to "
            "save"
        )
    block = {name: result.best[name] for name in ("kind", "layer", "kv_head")}
    heads = plan.heads_at(block["kind"], block["layer"])
    # With the heads that were scored together: alone, a batch of another size might round a pixel
    # differently.
    layer = Layer(plan.run, block["kind"], block["layer"], heads, device)
    # All files or none: predictions that were cut short would be scored as whole ones.
    with output_folder(folder, "--save-predictions") as aside:
        files = task.save(layer, heads.index(block["kv_head"]), aside)
        record = {
            "schema": SCHEMA,
            "task": result.task,
            **block,
            "config": result.config,
            "files": files,
        }
        text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        # Paths of this machine do not belong into what may be published.
        text = without_places(text, places_of([plan.run]))
        (aside / INDEX).write_text(text, encoding="utf-8")


def save_mask(path: Path, foreground: Array) -> None:
    """(H, W) bool as a grey PNG: 255 foreground, 0 background."""
    _save(path, Image.fromarray(np.where(foreground, np.uint8(255), np.uint8(0))))


def save_labels(path: Path, labels: Array) -> None:
    """(H, W) ids to 255 as an indexed PNG in the colours of VOC and DAVIS."""
    indexed = Image.fromarray(labels.astype(np.uint8))
    indexed.putpalette(_palette())
    _save(path, indexed)


def save_ids(path: Path, ids: Array) -> None:
    """(H, W) ids to 65535 as an RGB PNG, id = R + 256 G, as ImageNet-S has them."""
    _save(
        path,
        Image.fromarray(
            np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)
        ),
    )


def save_lines(path: Path, records: Sequence[Row]) -> None:
    """JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="PNG")


def _palette() -> list[int]:
    """256 colours: the bits of an id, from the lowest, go to red, green, blue in turn, each filled
    from the highest.
    """
    ids, colours = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return [int(level) for level in colours.reshape(-1)]
