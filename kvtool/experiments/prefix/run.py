"""`kvtool prefix`: what a text before the image does to what the image's tokens hold.

See the paper, section 4.1 and table 4. Every condition has a run of its own over the same images.
Its score is that of its own best block, and that of the best block without prefix; the difference
to the latter's score without prefix is paired, unit by unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.prefix.base import find_base, open_data
from kvtool.experiments.prefix.compared import ComparedRuns, compare_runs
from kvtool.experiments.prefix.conditions import (
    NONE,
    condition_names,
    extract_base,
    make_condition,
)
from kvtool.features.layers import Layer
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import MAX_REASONS, Result, Row, result_key, versions
from kvtool.stats.multiple import with_holm
from kvtool.store import Run
from kvtool.store.select import Target, select_store
from kvtool.store.shares import sharing
from kvtool.tasks import TASKS, promptable_tasks
from kvtool.tasks.base import Array, Select, Table, Task, nonfinite_lines, table_rows
from kvtool.tasks.blocks import DECODER, torch_device
from kvtool.tasks.chance import Chances, beside_chance
from kvtool.tasks.differences import difference, difference_p
from kvtool.tasks.evaluation import count_blocks, own_options
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.truth import sizes_of
from kvtool.types import Block, Kind

if TYPE_CHECKING:
    import torch


@checked
@crewed()
def prefix(
    target: Target,
    task: str,
    *,
    conditions: Sequence[str] | None = None,
    prefix: Sequence[str] = (),
    kinds: Sequence[Kind] = ("value",),
    layers: LayerChoice | None = None,
    select: str = "max",
    limit: int | None = None,
    run: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
    **options: Any,
) -> Result:
    """Score a task without prefix and under each condition, two rows each: the best block, and the
    fixed one.

    Conditions that no run holds are extracted first, into runs named after the one without prefix;
    and that one too where the store has none. Images that any condition lacks are left out of all,
    and counted in n_skipped. Raises UsageError for another task or condition and where it is not
    clear which run to start from, ModelError where its model is another one now, KvtoolError where
    no image remains; where other processes still score conditions, UnfinishedError if this process
    scored some, else BusyError.

    Args:
        target: the store, or the run without prefix.
        task: one of kvtool.tasks.promptable_tasks.
        conditions: those that the data set offers: none, correct, random, incorrect; by default
            all; none is always there.
        prefix: the user's own, each text:... or file:CSV.
        kinds: kinds of the decoder.
        layers: the layers from which blocks are chosen.
        select: how the best block is chosen, as in probe.
        limit: the most sampling units, as in probe.
        run: the name of a run, where the target is a store.
        model: the model to extract with, or the place of the run's model.
        dataset: the data set to extract, NAME[:PATH][@SPLIT].
        data: the place of the run's data set, if it moved.
        device: the device of model and scores.
        devices: in place of one device several, a worker each, who share the
            pictures, and the layers of each condition.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        cpus_per_worker: the CPUs that Ray sets aside for a worker.
        seed: the random seed, as in probe.
        fresh: whether everything is scored again.
        wait_s: how long to wait for conditions that other processes score, once all others are
            done.
        progress: called with a number and a note for the blocks, and once with their number;
            True shows a bar.
        options: the task's options, as in probe.
    """
    progress = called(progress)
    task_options = _check(task, kinds, select, {**options, "limit": limit, "seed": seed})
    store, run_name = select_store(target, run, create=None not in (model, dataset))
    base = find_base(store, task, kinds, run_name, model, dataset)
    opened = open_data(base, task, data, dataset)
    names = condition_names(opened, conditions, prefix)
    texts = [make_condition(name, opened) for name in names]
    # Nothing is extracted before all options are checked.
    base = base or extract_base(store, model, dataset, device, progress)
    extraction = (opened, kinds, model, device, progress)
    compared, reasons = compare_runs(store, base, layers, texts, *extraction)
    # The key needs the runs' texts, which are there from here on.
    config = compared.config(task, kinds, select, seed, task_options, opened.truth_digest())
    key = result_key(config)
    if not fresh and (stored := store.kept(key, Result.from_json)) is not None:
        return stored
    probing: dict[str, Any] = {
        "select": select,
        "limit": limit,
        "device": device,
        "data": data,
        "seed": seed,
    }
    probing |= {"fresh": fresh, "kinds": kinds, "progress": progress, **options}
    progress(0, "", sum(count_blocks(run, task, kinds, compared.layers) for run in compared.runs))
    with sharing(wait_s) as share:
        best = compared.best(task, share, **probing)
    compute_device = torch_device(device)
    # The task is set up on the common images, so that all conditions have the same units.
    work: Task = TASKS.load(task)(
        opened, sizes_of(base, compared.ids), compute_device, **task_options
    )
    scored = ScoredConditions(work, compute_device, select, seed)
    return keep_result(store, key, _result(scored, compared, best, config, reasons))


def _result(
    scored: ScoredConditions,
    compared: ComparedRuns,
    best: Sequence[Block],
    config: dict[str, Any],
    reasons: list[str],
) -> Result:
    """Return the result of scored conditions, with notes on values that are not finite."""
    work = scored.work
    rows = scored.rows(compared, best)
    lines: list[str] = []
    for run in compared.runs:
        lines += nonfinite_lines(run, [row for row in rows if row["run"] == run.name])
    result = Result(
        command="prefix",
        task=config["task"],
        metric=work.metric,
        n=work.n,
        rows=rows,
        config=config | work.settings() | {"notes": [*work.skipped, *blind(best), *lines]},
        versions=versions(),
        n_skipped=len(reasons),
        skipped=reasons[:MAX_REASONS],
        items=compared.items(),
        unit=work.unit,
        higher_is_better=work.higher_is_better,
        chance=list(scored.chances.rows),
    )
    # Of a condition its own block, or that of none, was chosen among as many as there are.
    n_blocks = compared.count_blocks(config["kinds"])
    levels = [beside_chance(row, result, n_blocks, scored.select) for row in rows]
    return replace(result, rows=levels)


def _check(
    task: str, kinds: Sequence[Kind], select: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the task's options, checked before anything is extracted. Raises UsageError."""
    tasks = promptable_tasks()
    if task not in tasks:
        raise UsageError(f"prefix: expected one of the tasks {', '.join(tasks)}; found {task!r}")
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    allowed = [kind for kind in DECODER if kind in TASKS.load(task).kinds]
    if not kinds or not set(kinds) <= set(allowed):
        raise UsageError(
            f"kinds: expected some of {', '.join(allowed)}, found {', '.join(kinds) or 'none'}; "
            f"a prefix reaches the decoder alone, and {task} takes no others"
        )
    return own_options(task, options)


@dataclass
class ScoredConditions:
    """Rows of conditions, all over the same units of a task.

    With select "split" these are the units that chose no block.
    """

    work: Task
    device: torch.device
    select: str
    seed: int
    _latest: tuple[tuple[str, Kind, int], Table, Array] | None = field(default=None, repr=False)

    @cached_property
    def chances(self) -> Chances:
        """What knows nothing gets on the task."""
        return Chances(self.work, self.seed)

    def table(self, run: Run, block: Block) -> tuple[Table, Array]:
        """Return the summary's units (1, n, k) of a block, and how many values under them are not
        finite, (1,)."""
        key = (run.name, block.kind, block.layer)
        if self._latest is None or self._latest[0] != key:
            # All heads at once, as in the probe: products of fewer might differ in the last bits.
            heads = range(run.config.count_heads(block.kind, block.layer))
            layer = Layer(run, block.kind, block.layer, heads, self.device)
            measured = self.work.measure(layer)
            self._latest = key, next(iter(self.work.tables(measured))), layer.nonfinite
        head = slice(block.kv_head, block.kv_head + 1)
        (_, table, nonfinite) = self._latest
        if self.select == "split":
            _, table = table.halves(self.seed)
        return table._replace(units=table.units[head]), nonfinite[head]

    def rows(self, compared: ComparedRuns, best: Sequence[Block]) -> list[Row]:
        """Return two rows for each condition: its own best block, and the best block without
        prefix."""
        # The conditions come with `none` first: its best block is the fixed one.
        fixed = best[0]
        without, _ = self.table(compared.base, fixed)
        rows = []
        for condition, run, best_block in zip(
            compared.conditions, compared.runs, best, strict=True
        ):
            # The best block may move with the text; the fixed one shows its effect on one place.
            for choice, block in (("best", best_block), ("fixed", fixed)):
                table, nonfinite = self.table(run, block)
                labels = {"condition": condition.name, "choice": choice, **asdict(block)}
                level = self.chances.of(run, block.kind, table)
                (row,) = table_rows([labels], table, self.seed, nonfinite, level, self.work.unit)
                n = row.pop("n")
                # Units are paired: each condition has the same episodes, pairs or sentences.
                differences = difference(table, without, self.work.metric, self.seed, nonfinite)
                row |= differences
                # Without prefix there is nothing to swap.
                if condition.name != NONE and not nonfinite.any():
                    row["swap_p"] = difference_p(
                        table, without, self.work.metric, differences, self.seed
                    )
                rows.append(row | {"n": n, "run": run.name})
        # By the best and by the fixed block the conditions are two families of tests.
        return with_holm(rows, "swap_p", "swap_holm_p", lambda row: row["choice"])


def blind(blocks: Sequence[Block]) -> list[str]:
    """Note where a block was chosen whose vectors are computed before any attention."""
    if not any(block.kind == "value" and block.layer == 0 for block in blocks):
        return []
    return [
        "values of layer 0 do not see the text before them, and one was the best; --layers "
        "chooses among others"
    ]
