"""What a block predicts of some images, as one contact sheet: the part of `kvtool show` that needs
a probe's task."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from kvtool.asking.caches import WAIT_S
from kvtool.datasets.identity import dataset_of
from kvtool.errors import KvtoolError, UsageError
from kvtool.pictures.files import check_images, frames_of
from kvtool.pictures.tiles import sheet_of
from kvtool.progress import Progress
from kvtool.reporting.numbers import in_percent, unit_word
from kvtool.result import Result, Row, block_name, is_summary
from kvtool.store import Run
from kvtool.store.kept import extent, kept_results
from kvtool.store.shares import Share
from kvtool.tasks import TASKS
from kvtool.tasks.blocks import plan_blocks, torch_device
from kvtool.tasks.evaluation import check_served, count_blocks, evaluate
from kvtool.tasks.saved import given_images, saved_predictions, scored_heads, scored_task
from kvtool.types import Block, Kind


def predictions(
    run: Run,
    names: tuple[str, ...],
    task: str,
    block: Block | None,
    limit: int,
    data: str | Path | None,
    device: str,
    progress: Progress,
) -> tuple[Image.Image, Block, tuple[str, ...]]:
    """Return a contact sheet, the block that predicted, and notes; see
    kvtool.experiments.show.run.show."""
    task_class = TASKS.load(task)
    compute_device = torch_device(device)
    check_served(run, task)
    if limit < 1:
        raise UsageError(f"show: --limit: expected 1 or more, found {limit}")
    # A task with given masks starts from a first frame: a sequence's name stands for its frames.
    ids = frames_of(run, names) if hasattr(task_class, "given") else names
    check_images(run, ids, "show")
    dataset = dataset_of(run, data)
    # A stored probe says which block is best, and with which options it was scored.
    probes = (probe for probe in kept_results(run, "probe") if probe.task == task and probe.best)
    # The widest, as a later probe of a few layers says nothing about the others.
    result = max(probes, key=extent, default=None)
    if result is None and block is None:
        progress(0, "", count_blocks(run, task))
        result = evaluate(
            run, task, data=data, device=device, share=Share(WAIT_S), progress=progress
        )
    is_best = block is None
    block = _choose(run, task, block, result, task_class.kinds)
    # Heads run together as they were scored, so that no pixel rounds otherwise.
    heads = scored_heads(run, block, result)
    work = scored_task(run, task, dataset, result, compute_device)
    work.only(set(ids))
    with saved_predictions(run, work, block, heads, compute_device) as saved:
        if not saved.records or saved.records[0].get("pairs") == 0:
            raise _unserved(work, ids, result)
        refs = {ref.id: ref for ref in dataset.images()}
        title = _title(run, task, block, result)
        # A sequence begins with the frame whose masks were given.
        images = {*ids, *given_images(work)}
        sheet, n_drawn, n = sheet_of(saved, refs, images, limit, title)
    notes = (f"{n_drawn} of {n} drawn: --limit sets how many",) if n_drawn < n else ()
    if is_best:
        notes = (f"the best block of {task}: {block.kind}:{block.layer}:{block.kv_head}", *notes)
    return sheet.picture, block, notes


def _choose(
    run: Run, task: str, block: Block | None, result: Result | None, task_kinds: Sequence[Kind]
) -> Block:
    """Return the block that predicts: the best one, where none is named."""
    if block is None:
        best = None if result is None else result.best
        if best is None:
            raise KvtoolError(
                f"show: {task}: no block has a score, so none is best: give one with --block"
            )
        block = Block(best["kind"], best["layer"], best["kv_head"])
    plan = plan_blocks(run, [block.kind], None, None, task_kinds)
    heads = plan.heads_at(block.kind, block.layer)
    if block.kv_head not in heads:
        raise UsageError(
            f"show: --block: run {run.name} has no {block.kind}:{block.layer}:{block.kv_head}; "
            f"layers of {block.kind}: {', '.join(map(str, plan.layers))}; "
            f"kv_heads: {', '.join(map(str, heads or plan.heads))}"
        )
    return block


def _unserved(work: Any, ids: Sequence[str], result: Result | None) -> UsageError:
    """Return the error of a task that predicts nothing of the images."""
    limit = None if result is None else result.config["options"].get("limit")
    limit_note = f", --limit {limit}" if limit else ""
    listed = sorted(work.images())
    matches = (get_close_matches(image, listed, n=3, cutoff=0.4) for image in ids[:3])
    similar = list(dict.fromkeys(chain.from_iterable(matches)))
    hint = f"; it knows {', '.join(map(repr, (similar or listed)[:3]))}" if listed else ""
    return UsageError(
        f"show: {work.name} predicts nothing of {', '.join(map(repr, ids[:3]))}: expected an image "
        f"of its {work.n} units (queries, pairs, sequences{limit_note}), found none{hint}"
    )


def _title(run: Run, task: str, block: Block, result: Result | None) -> str:
    """Return the task, the block with its score where a stored result has it, and the run."""
    row = {"kind": block.kind, "layer": block.layer, "kv_head": block.kv_head}
    return f"{task} · {block_name(row)}{_score(row, result)} · run {run.name}"


def _score(block: Row, result: Result | None) -> str:
    """Return a block's score in brackets, where a result has it."""
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
