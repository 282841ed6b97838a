"""Example pictures of what blocks predict, for a page: some units of a probe's task, drawn as
`show` draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtool.datasets.base import DatasetBase
from kvtool.pictures.thumbnails import Drawn, Thumbnails
from kvtool.pictures.tiles import drawings_of
from kvtool.result import Result, Row, is_summary
from kvtool.store import Run
from kvtool.tasks.saved import example_images, saved_predictions, scored_heads, scored_task
from kvtool.tasks.spread import spread
from kvtool.types import Block

if TYPE_CHECKING:
    import torch

SIDE_PX = 192
"""The longer side of a picture on a page."""


def draw_examples(
    run: Run,
    dataset: DatasetBase,
    result: Result,
    count: int,
    n_blocks: int,
    device: torch.device,
    pictures: Thumbnails,
) -> dict[Block, list[Drawn]]:
    """Return up to `count` pictures of each of the n_blocks best blocks, the best of each kind
    first.

    Blocks that the run lacks are left out. Raises KvtoolError where the data set's files are not as
    they should be, or not those that were scored.
    """
    task = scored_task(run, str(result.task), dataset, result, device)
    images = example_images(task, count)
    # Only what the examples need is predicted.
    task.only(set(images))
    refs = {ref.id: ref for ref in dataset.images()}
    examples: dict[Block, list[Drawn]] = {}
    for block in _leading_blocks(result, n_blocks):
        if block.kind not in run.config.kinds or block.layer not in run.config.stored_layers(
            block.kind
        ):
            continue
        # With the heads that were scored together: alone, a block might round differently.
        heads = scored_heads(run, block, result)
        with saved_predictions(run, task, block, heads, device) as saved:
            drawings = drawings_of(saved, refs, set(images))
            tiles = [draw(SIDE_PX) for draw in spread(drawings.units, count)]
        thumbnails = [pictures.add(tile.picture, " · ".join(tile.caption)) for tile in tiles]
        examples[block] = [thumbnail for thumbnail in thumbnails if thumbnail is not None]
    return {block: thumbnails for block, thumbnails in examples.items() if thumbnails}


def _leading_blocks(result: Result, count: int) -> list[Block]:
    """Return the best block of each kind, the kind of the best first; then the others by score."""
    rows = result.ranked([row for row in result.rows if is_summary(row)])
    # From the best row down: that of each kind which stands first.
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["kind"], row)
    ordered = [row for row in (result.best, *first.values(), *rows) if row is not None]
    blocks = [Block(row["kind"], row["layer"], row["kv_head"]) for row in ordered]
    return list(dict.fromkeys(blocks))[:count]
