"""`kvtool compare`: do two runs differ on a task? Paired differences over the same sampling units.

A tower before and after joint training, one model and another, a prefix and none: all by one
statistic, block by block and best against best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvtool.bounds import checked
from kvtool.datasets.identity import dataset_of
from kvtool.errors import UsageError
from kvtool.experiments.compare.blocks import ComparedBlocks
from kvtool.experiments.compare.pairing import (
    PairedImages,
    describe_pairing,
    paired_images,
    runs_to_compare,
)
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import MAX_REASONS, Result, Row, result_key, versions
from kvtool.stats.multiple import with_holm
from kvtool.store import Store, open_store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import StorePath
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks import TASKS
from kvtool.tasks.base import BlockPlan, Select, Task, nonfinite_lines
from kvtool.tasks.blocks import plan_blocks, torch_device
from kvtool.tasks.evaluation import algorithm_of, own_options
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.truth import sizes_of
from kvtool.types import Kind


@checked
def compare(
    store: StorePath | Store,
    runs: Sequence[str],
    task: str,
    *,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    select: str = "split",
    limit: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
    **options: Any,
) -> Result:
    """Compare runs over the same images on a task, each with the first one.

    A row with choice "block" sets a block beside the same block of the first run, where both have
    it; one with choice "best" the best block of a run beside the first run's best one, whatever
    layers and heads the two models have. `difference` is the run's score less the first run's, its
    interval that of the paired bootstrap: each resample draws sampling units, and with a unit both
    runs' share of it. `p` is two-sided, `holm_p` corrected for all rows of the same choice.

    The result is stored and returned again when the same is asked for, unless `fresh`. Raises
    UsageError for fewer than two runs, for runs over other data sets and for blocks that are not
    stored, KvtoolError where the runs have no image in common, BusyError where another process
    compares the same.

    Args:
        store: the store of the runs.
        runs: names of the runs; the others are compared with the first.
        task: the name of the task.
        kinds: as in probe, of each run.
        layers: as in probe.
        heads: as in probe.
        select: "split" chooses the best blocks on one half of the sampling units and compares them
            on the other; "max" does both on all of them, which is optimistic for both runs.
        limit: the most sampling units.
        device: the device.
        data: the place of the runs' data set, if it moved.
        seed: the random seed of episodes, halves, intervals and swaps.
        fresh: whether everything is compared again.
        wait_s: how long to wait for another process that compares the same.
        progress: called with (blocks done, note); True shows a bar.
        options: the task's options, as in probe.
    """
    task_class = TASKS.load(task)
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    home = store if isinstance(store, Store) else open_store(store)
    chosen_runs = runs_to_compare(home, runs, task)
    task_options = own_options(task, {**options, "limit": limit, "seed": seed})
    # Each run has its own blocks: models may differ in layers and heads.
    plans = [plan_blocks(run, kinds, layers, heads, task_class.kinds) for run in chosen_runs]
    images = paired_images(chosen_runs)
    dataset = dataset_of(chosen_runs[0], data)
    settings = {
        "request": {"kinds": kinds, "layers": layers, "heads": heads},
        "select": select,
        "seed": seed,
        "options": _kept_options(task_options),
    }
    # The key names the pictures in common, not the place of the data.
    config = _config(task, plans, images, dataset.truth_digest(), settings)
    key = result_key(config)

    def make() -> Result:
        """Score all blocks, and keep what came of it."""
        compute_device = torch_device(device)
        sizes = sizes_of(chosen_runs[0], images.ids)
        work: Task = task_class(dataset, sizes, compute_device, **task_options)
        blocks = ComparedBlocks(work, plans, compute_device, select, seed)
        return keep_result(home, key, _result(work, blocks, images, config, called(progress)))

    def stored() -> Result | None:
        """Return what is kept, unless all is to be computed anew."""
        return None if fresh else home.kept(key, Result.from_json)

    claim = chunk_name("compare", task, key)
    return Share(wait_s).result(chosen_runs[0], claim, stored, make)


def _kept_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in ("seed", "backend")}


def _config(
    task: str,
    plans: Sequence[BlockPlan],
    images: PairedImages,
    truth_hash: str,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all that the numbers depend on; the result's key is its hash."""
    runs = [plan.run for plan in plans]
    blocks = [
        {"run": plan.run.name, "kind": kind, "layers": list(layers), "kv_heads": list(heads)}
        for plan in plans
        for kind, layers, heads in plan.blocks
    ]
    return {
        "command": "compare",
        "task": task,
        "algorithm": [ALGORITHMS["compare"], algorithm_of(task)],
        **describe_run(runs[0], images.ids),
        "truth_hash": truth_hash,
        "runs": describe_pairing(runs),
        "blocks": blocks,
        **settings,
    }


def _result(
    work: Task,
    blocks: ComparedBlocks,
    images: PairedImages,
    config: dict[str, Any],
    progress: Progress,
) -> Result:
    """Return the result: best against best first, then the blocks that both runs have."""
    block_rows = list(blocks.rows(progress))
    best_rows = list(blocks.best_rows())
    # Two families of tests: the best blocks of runs, and the blocks that runs have in common.
    rows = with_holm([*best_rows, *block_rows], "p", "holm_p", lambda row: row["choice"])
    return Result(
        command="compare",
        task=work.name,
        metric=work.metric,
        n=work.n,
        rows=rows,
        config=config | work.settings() | {"notes": _notes(blocks, rows)},
        versions=versions(),
        n_skipped=images.n_left_out + work.n_skipped,
        skipped=[*images.reasons, *work.skipped][:MAX_REASONS],
        unit=work.unit,
        higher_is_better=work.higher_is_better,
    )


def _notes(blocks: ComparedBlocks, rows: Sequence[Row]) -> list[str]:
    """Say which runs have no best block, or no block in common with the first run."""
    notes = []
    for plan in blocks.plans:
        name = plan.run.name
        if blocks.leaders[name].best is None:
            notes.append(f"run {name}: the score is defined for none of its blocks")
        if plan is not blocks.plans[0] and not any(
            row["choice"] == "block" and row["run"] == name for row in rows
        ):
            notes.append(f"run {name} has no block in common with {blocks.base.name}")
        own_rows = [row for row in rows if row["run"] == name and row["choice"] == "block"]
        notes += nonfinite_lines(plan.run, own_rows)
    return notes
