"""What a block predicts of some images, as one contact sheet: the part of `kvtool show` that needs
a probe's task."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from PIL import Image

from kvtool.asking.caches import WAIT_S
from kvtool.datasets.identity import dataset_of
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.show.images import check_images
from kvtool.features.layers import Layer
from kvtool.pictures.tiles import Units, sheet_of
from kvtool.reporting.numbers import in_percent, unit_word
from kvtool.result import Result, Row, block_name, is_summary
from kvtool.store import Run
from kvtool.store.kept import kept_results
from kvtool.store.nonfinite import WHAT
from kvtool.store.shares import Share
from kvtool.tasks import TASKS
from kvtool.tasks.blocks import plan_blocks, torch_device
from kvtool.tasks.evaluation import check_served, evaluate
from kvtool.tasks.truth import sizes_of
from kvtool.types import Block, Kind


def predictions(
    run: Run,
    names: tuple[str, ...],
    task: str,
    block: Block | None,
    limit: int,
    data: str | Path | None,
    device: str,
    progress: Callable[..., None] | None,
) -> tuple[Image.Image, Block, tuple[str, ...]]:
    """A contact sheet, the block that predicted, and notes; see
    kvtool.experiments.show.run.show."""
    kind_of_task = TASKS.load(task)
    where = torch_device(device)
    check_served(run, task)
    if limit < 1:
        raise UsageError(f"show: --limit: expected 1 or more, found {limit}")
    ids = _frames_of(run, names) if task == "temporal-correspondence" else names
    check_images(run, ids)
    dataset = dataset_of(run, data)
    result = next(
        (one for one in kept_results(run, "probe") if one.task == task and one.best), None
    )
    if result is None and block is None:
        result = evaluate(
            run, task, data=data, device=device, share=Share(WAIT_S), progress=progress
        )
    chosen, heads = _choose(run, task, block, result, kind_of_task.kinds)
    work = kind_of_task(dataset, sizes_of(run), where, **_options(kind_of_task, result))
    work.only(set(ids))
    with tempfile.TemporaryDirectory(prefix="kvtool-show-") as folder:
        layer = Layer(run, chosen.kind, chosen.layer, heads, where)
        records = work.save(layer, heads.index(chosen.kv_head), Path(folder))
        if layer.nonfinite[heads.index(chosen.kv_head)]:
            name = block_name(
                {"kind": chosen.kind, "layer": chosen.layer, "kv_head": chosen.kv_head}
            )
            raise KvtoolError(
                f"show: run {run.name}: {name}: {WHAT}, so it predicts nothing: give another "
                "--block"
            )
        if not records or records[0].get("pairs") == 0:
            raise _unserved(work, ids, result)
        refs = {ref.id: ref for ref in dataset.images()}
        units = Units(work, records, Path(folder))
        sheet, n_drawn, n = sheet_of(
            units, refs, set(ids), limit, _title(run, task, chosen, result)
        )
    notes = (f"{n_drawn} of {n} drawn: --limit sets how many",) if n_drawn < n else ()
    return sheet.picture, chosen, notes


def _frames_of(run: Run, names: Sequence[str]) -> tuple[str, ...]:
    """Frames, those of a sequence for its name."""
    found: list[str] = []
    for name in names:
        found += [image for image in run.ids if image.startswith(f"{name}/")] or [name]
    return tuple(found)


def _choose(
    run: Run, task: str, block: Block | None, result: Result | None, able: Sequence[Kind]
) -> tuple[Block, list[int]]:
    """The block, and the heads that were scored with it: alone, it might round a pixel
    differently."""
    if block is None:
        best = None if result is None else result.best
        if best is None:
            raise KvtoolError(
                f"show: {task}: no block has a score, so none is best: give one with --block"
            )
        block = Block(best["kind"], best["layer"], best["kv_head"])
    ((_, layers, heads),) = plan_blocks(run, [block.kind], None, None, able).blocks
    if block.layer not in layers or block.kv_head not in heads:
        raise UsageError(
            f"show: --block: run {run.name} has no {block.kind}:{block.layer}:{block.kv_head}; "
            f"layers of {block.kind}: "
            f"{', '.join(map(str, layers))}; kv_heads: {', '.join(map(str, heads))}"
        )
    for scored in [] if result is None else result.config["blocks"]:
        if scored["kind"] == block.kind and block.kv_head in scored["kv_heads"]:
            return block, list(scored["kv_heads"])
    return block, list(heads)


def _options(kind_of_task: Any, result: Result | None) -> dict[str, Any]:
    """Those of the probe, but each class given: a map of all classes has no mask of one."""
    if result is None:
        return {}
    options = {**result.config["options"], "seed": result.config["seed"], "all_classes": False}
    known = signature(kind_of_task).parameters
    return {name: value for name, value in options.items() if name in known}


def _unserved(work: Any, ids: Sequence[str], result: Result | None) -> UsageError:
    limit = None if result is None else result.config["options"].get("limit")
    of_limit = f", --limit {limit}" if limit else ""
    listed = sorted(work.images())
    near = list(
        dict.fromkeys(
            one for image in ids[:3] for one in get_close_matches(image, listed, n=3, cutoff=0.4)
        )
    )
    hint = f"; it knows {', '.join(map(repr, (near or listed)[:3]))}" if listed else ""
    return UsageError(
        f"show: {work.name} predicts nothing of {', '.join(map(repr, ids[:3]))}: expected an image "
        f"of its {work.n} units (queries, pairs, sequences{of_limit}), found none{hint}"
    )


def _title(run: Run, task: str, block: Block, result: Result | None) -> str:
    """The task, the block with its score where a kept result has it, and the run."""
    row = {"kind": block.kind, "layer": block.layer, "kv_head": block.kv_head}
    return f"{task} · {block_name(row)}{_score(row, result)} · run {run.name}"


def _score(block: Row, result: Result | None) -> str:
    if result is None:
        return ""
    scored = next(
        (row for row in result.rows if is_summary(row) and block.items() <= row.items()), None
    )
    if scored is None or scored.get(result.metric) is None:
        return ""
    is_best = result.best is not None and block.items() <= result.best.items()
    unit = "" if in_percent(result) else f" {unit_word(result)}".rstrip()
    return f" ({'best block, ' * is_best}{result.metric} {scored[result.metric]:.3f}{unit})"
