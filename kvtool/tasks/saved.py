"""What a block predicts of some images, made again from the store exactly as it was scored: what
`show` and the page draw.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from kvtool.errors import KvtoolError
from kvtool.features.layers import Layer
from kvtool.result import Result, Row, block_name
from kvtool.store.nonfinite import WHAT
from kvtool.tasks import TASKS
from kvtool.tasks.blocks import plan_blocks
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import sizes_of
from kvtool.types import Block, GridSpan, Kind, Sample

if TYPE_CHECKING:
    import torch

    from kvtool.datasets.base import DatasetBase
    from kvtool.store import Run


class Saved(NamedTuple):
    """What a task saved of a block: the task, a record for each file, the folder with the files,
    and the samples of the images that the block has grids of, by image id."""

    task: Any
    records: list[Row]
    folder: Path
    samples: Mapping[str, Sample] = MappingProxyType({})
    kind: Kind = "value"

    def span(self, image: str) -> GridSpan | None:
        """Return the grid of an image by which it was predicted; None where it is not known."""
        sample = self.samples.get(image)
        return None if sample is None else sample.base(self.kind)


def scored_task(
    run: Run, task: str, dataset: DatasetBase, result: Result | None, device: torch.device
) -> Any:
    """Return a task as a result's blocks were scored on it: with its images, options, limit and
    seed; without a result, with the defaults.

    Options that the class names as `picture_options` alone are those of its pictures. Raises
    KvtoolError where the run's images or the annotations are not those that were scored.
    """
    # Without a result nothing says how to score: the task's defaults do.
    task_class = TASKS.load(task)
    if result is None:
        return task_class(dataset, sizes_of(run), device)
    # Pictures of other annotations would not be what was scored.
    digest = result.config.get("truth_hash")
    if digest is not None and digest != dataset.truth_digest():
        raise KvtoolError(
            f"{task} of run {run.name}: the annotations of {dataset.name} changed since it was "
            "scored: probe again"
        )
    options = {**result.config.get("options", {}), "seed": result.config.get("seed", 0)}
    options |= getattr(task_class, "picture_options", {})
    parameters = signature(task_class).parameters
    # Results of earlier versions may have options that the task no longer takes.
    task_options = {name: value for name, value in options.items() if name in parameters}
    return task_class(dataset, sizes_of(run, _scored_ids(run, result)), device, **task_options)


def _scored_ids(run: Run, result: Result) -> Sequence[str]:
    """Return the images that a result was scored over: all of a run, or those that it held before
    more were added."""
    digest = result.config.get("images_hash")
    # A run that grew at its end begins with what was scored.
    for ids in (run.ids, run.ids[: result.config.get("images", 0)]):
        if digest is None or run.images_hash(ids) == digest:
            return ids
    raise KvtoolError(
        f"{result.task} of run {run.name}: it was scored over {result.config.get('images')} images "
        "that cannot be told from the others that the run holds: probe again"
    )


def scored_heads(run: Run, block: Block, result: Result | None) -> list[int]:
    """Return the heads that were scored together with a block: alone, it might round a pixel
    differently."""
    for scored in [] if result is None else result.config["blocks"]:
        is_of_layer = block.layer in scored["layers"] or block.kind == "projected"
        if scored["kind"] == block.kind and is_of_layer and block.kv_head in scored["kv_heads"]:
            return list(scored["kv_heads"])
    return list(plan_blocks(run, [block.kind], None, None).heads_at(block.kind, block.layer))


@contextmanager
def saved_predictions(
    run: Run, task: Any, block: Block, heads: Sequence[int], device: torch.device
) -> Iterator[Saved]:
    """Give what a block predicts of the images that task.only chose, in a folder that is removed.

    Raises KvtoolError where the block's values are not finite.
    """
    # All heads of the layer at once, as they were scored: rounding depends on the batch.
    layer = Layer(run, block.kind, block.layer, heads, device)
    with tempfile.TemporaryDirectory(prefix="kvtool-predictions-") as folder:
        records = task.save(layer, heads.index(block.kv_head), Path(folder))
        # Predictions of a block with a NaN are made but mean nothing.
        if layer.nonfinite[heads.index(block.kv_head)]:
            name = block_name({"kind": block.kind, "layer": block.layer, "kv_head": block.kv_head})
            raise KvtoolError(
                f"run {run.name}: {name}: {WHAT}, so it predicts nothing: take another block"
            )
        images = task.images()
        samples = {sample.id: sample for sample in run.views if sample.id in images}
        yield Saved(task, records, Path(folder), samples, block.kind)


def example_images(task: Any, count: int) -> list[str]:
    """Return the images by which a task is shown, about `count`: those that its `examples` chooses,
    else some of all that it reads."""
    if hasattr(task, "examples"):
        return list(task.examples(count))
    return spread(sorted(task.images()), count)


def given_images(task: Any) -> Collection[str]:
    """Return the images of which a task is given the truth to start from, e.g. first frames."""
    return task.given() if hasattr(task, "given") else ()


def drawing_of(task: Any) -> str | None:
    """Return what the files of a task, or of its class, hold: "masks", "objects" or "matches";
    "itself" where it draws them, None where it says nothing."""
    if hasattr(task, "draw"):
        return "itself"
    drawing: str | None = getattr(task, "drawing", "masks" if hasattr(task, "truth") else None)
    return drawing
