"""`kvtool probe`: resolve the request, score the blocks, set baselines beside them, keep the result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.datasets import DATASETS, Spec, open_dataset
from kvtool.errors import CorruptError, KvtoolError, UsageError
from kvtool.probes import TASKS
from kvtool.probes.base import Plan, Select, Task, score_blocks
from kvtool.probes.predictions import check_free, save_best
from kvtool.reports.results import Result, Row, best_row, is_summary, result_key, versions
from kvtool.store import Run, Store, hash_ids, open_store
from kvtool.types import KINDS, Kind

if TYPE_CHECKING:
    import torch

DECODER: tuple[Kind, ...] = ("key", "value")
BASELINES: tuple[Kind, ...] = ("projected", "vision")

COMMON = {"limit", "seed"}
"""Options that every task is given, whether it draws anything or not."""


def probe(
    target: Run | Store,
    task: str,
    *,
    kinds: Sequence[Kind] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    ids: Collection[str] | None = None,
    select: str = "max",
    limit: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    save_predictions: str | Path | None = None,
    progress: Callable[..., None] | None = None,
    **options: Any,
) -> Result:
    """Score every block of a run on a task.

    kinds: by default value, or key where there is none, and the baselines projected and vision. layers, heads: of the
    decoder's kinds, the baselines beside them are whole; of vision where no decoder's kind is asked for. ids: only
    these of the run's images, so that runs which lack different ones can be compared. select: "max" takes the best
    block on the data it is scored on, which is optimistic; "split" chooses on one half of the sampling units and
    scores on the other. limit: sampling units at most. data: where the data set is now. seed: of episodes, halves and
    intervals. save_predictions: a new folder for what the best block predicts, see docs/output.md.
    progress: called with (blocks done, note). options: the task's own, see options_of.

    The result is kept in the store and given again when asked for the same, unless `fresh`. Raises UsageError where
    the run's data set cannot serve the task or a block is not stored, KvtoolError where nothing can be scored.
    """
    run = target.run() if isinstance(target, Store) else target
    kind_of_task = TASKS.load(task)
    check_served(run, task)
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    folder = None if save_predictions is None else Path(save_predictions)
    if folder is not None:
        check_free(folder)
    where = torch_device(device)
    plan = plan_blocks(run, kinds, layers, heads, kind_of_task.kinds)
    own = own_options(task, {**options, "limit": limit, "seed": seed})
    others = _other_runs(run) if set(BASELINES) <= set(kind_of_task.kinds) else []
    chosen = set(run.ids) if ids is None else set(run.ids) & set(ids)
    config = _config(run, plan, select, seed, task, own, others)
    if ids is not None:
        config["ids_hash"] = hash_ids(sorted(chosen))
    store = open_store(run.store)
    key = result_key(config)
    kept = None if fresh else store.load_result(key)
    if kept is not None and folder is None:
        return Result.from_json(kept)
    work: Task = kind_of_task(dataset_of(run, data), chosen, where, **own)
    if kept is not None:
        result = Result.from_json(kept)
    else:
        result = _score(work, plan, others, config, where, progress)
        store.keep(key, result.to_json())
    if folder is not None:
        save_best(work, plan, result, where, folder)
    return result


def _score(
    work: Task,
    plan: Plan,
    others: Sequence[Run],
    config: dict[str, Any],
    device: torch.device,
    progress: Callable[..., None] | None,
) -> Result:
    """The blocks of a plan, and beside them the baselines of other runs."""
    run, select, seed = plan.run, config["select"], config["seed"]
    if select == "split" and work.n < 2:
        raise UsageError(f"{work.name}: --select split: expected two sampling units or more, found {work.n}; use max")
    rows, halves = score_blocks(work, plan, device, select, seed, progress)
    skipped, baselines = list(work.skipped), _own_baselines(run, rows)
    for other in others:
        lacking = work.images() - set(other.ids)
        if lacking:
            skipped.append(f"run {other.name} is no baseline: it lacks {len(lacking)} of the images")
            continue
        try:
            found, _ = score_blocks(work, _baseline_plan(other), device, "max", seed, progress)
        except CorruptError as error:
            skipped.append(f"run {other.name} is no baseline: {error}")
            continue
        baselines += [_named(other, row) for row in found if is_summary(row)]
    return Result(
        command="probe",
        task=work.name,
        metric=work.metric,
        n=work.n,
        rows=rows,
        best=choose_best(rows, halves, work.metric),
        per_layer=per_layer(rows, work.metric),
        baselines=baselines,
        config=config | work.settings(),
        versions=versions(),
        n_skipped=work.n_skipped,
        skipped=skipped[:10],
    )


def tasks_of(run: Run) -> list[str]:
    """The tasks that a run's data set can serve, in the order of the table."""
    served = DATASETS.load(run.config.dataset).about.tasks
    return [name for name in TASKS.names() if name in served]


def count_blocks(
    run: Run,
    task: str,
    kinds: Sequence[Kind] | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> int:
    """How many blocks a probe scores, those of other runs included. Errors as probe's."""
    able = TASKS.load(task).kinds
    check_served(run, task)
    plans = [plan_blocks(run, kinds, layers, heads, able)]
    plans += [_baseline_plan(other) for other in _other_runs(run)] if set(BASELINES) <= set(able) else []
    return sum(len(of_layers) * len(of_heads) for plan in plans for _, of_layers, of_heads in plan.blocks)


def plan_blocks(
    run: Run,
    kinds: Sequence[Kind] | None,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    able: Sequence[Kind] = KINDS,
) -> Plan:
    """The stored blocks that a request names, of kinds the task is able to score. Raises UsageError for others."""
    stored = [kind for kind in run.config.kinds if kind in able]
    if not stored:
        raise UsageError(f"run {run.name}: the task scores {', '.join(able)}; stored: {', '.join(run.config.kinds)}")
    if kinds is None:
        decoder = [kind for kind in ("value", "key") if kind in stored][:1]
        kinds = [*decoder, *(kind for kind in BASELINES if kind in stored)]
    narrowed = [kind for kind in DECODER if kind in kinds] or [kind for kind in kinds if kind != "projected"]
    blocks = []
    for kind in dict.fromkeys(kinds):
        if kind not in KINDS or kind not in stored:
            why = "not stored" if kind not in run.config.kinds else "without text vectors, which the task needs"
            raise UsageError(f"run {run.name}: {kind} is {why}, only {', '.join(stored)}")
        have = run.config.stored_layers(kind)
        count, _ = run.config.heads_and_dim(kind)
        wanted = tuple(dict.fromkeys(layers)) if kind in narrowed and layers is not None else have
        chosen = tuple(dict.fromkeys(heads)) if kind in narrowed and heads is not None else tuple(range(count))
        _check(run, kind, "layer", wanted, have)
        _check(run, kind, "kv_head", chosen, range(count))
        blocks.append((kind, wanted, chosen))
    return Plan(run, tuple(blocks))


def _check(run: Run, kind: str, what: str, wanted: Sequence[int], have: Sequence[int]) -> None:
    absent = [number for number in wanted if number not in have]
    if absent or not wanted:
        listed = ", ".join(map(str, have))
        raise UsageError(f"run {run.name}: {kind} has no {what} {', '.join(map(str, absent))}; stored: {listed}")


def choose_best(rows: Sequence[Row], halves: Sequence[Row], metric: str) -> Row | None:
    """The best block of the decoder's kinds, or of all where there are none; with halves, chosen on the first half."""

    def eligible(found: Sequence[Row]) -> list[Row]:
        summary = [row for row in found if is_summary(row)]
        return [row for row in summary if row["kind"] in DECODER] or summary

    if not halves:
        best = best_row(eligible(rows), metric)
        return None if best is None else {**best, "select": "max"}
    best = best_row(eligible(halves), f"chosen_{metric}")
    return None if best is None else {**best, "select": "split"}


def per_layer(rows: Sequence[Row], metric: str) -> list[Row]:
    """The best row of each (kind, layer)."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if is_summary(row):
            groups.setdefault((row["kind"], row["layer"]), []).append(row)
    return [best for group in groups.values() if (best := best_row(group, metric)) is not None]


def torch_device(name: str) -> torch.device:
    """The device of a name; "auto" is CUDA where there is one. Raises UsageError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device: expected auto, cpu or cuda:N, found {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device: {name} is not here ({torch.cuda.device_count()} CUDA devices); use --device cpu")
    return device


def check_served(run: Run, task: str) -> None:
    """Raises UsageError where a run's data set cannot serve a task."""
    if task not in tasks_of(run):
        able = ", ".join(name for name in DATASETS.names() if task in DATASETS.load(name).about.tasks)
        raise UsageError(
            f"run {run.name} is over {run.config.dataset}, which cannot serve {task}; data sets that can: {able}"
        )


def dataset_of(run: Run, data: str | Path | None) -> Any:
    """A run's data set, from `data` or where it was extracted from. Raises KvtoolError where it is not there."""
    path = run.config.dataset_path if data is None else str(data)
    if path is None:
        raise UsageError(f"run {run.name}: it does not say where {run.config.dataset} is; give the folder with --data")
    try:
        return open_dataset(Spec(run.config.dataset, path, run.config.split))
    except KvtoolError as error:
        hint = "" if data is not None else "; if it moved, give the folder with --data"
        raise type(error)(f"{error}{hint}") from None


def options_of(task: str) -> set[str]:
    """Names of a task's own options, e.g. {"upsample", "backend"}."""
    return set(signature(TASKS.load(task)).parameters) - {"dataset", "ids", "device", *COMMON}


def own_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the task takes them. Raises UsageError for one that is not the task's."""
    own = options_of(name)
    for option in options.keys() - own - COMMON:
        owners = [task for task in TASKS.names() if option in options_of(task)]
        what = f"is of {' and '.join(owners)} alone" if owners else "is unknown"
        raise UsageError(
            f"probe: the option {option!r} {what}; {name} takes: {', '.join(sorted(own)) or 'none of its own'}"
        )
    known = signature(TASKS.load(name)).parameters
    return {option: value for option, value in options.items() if option in known}


def _other_runs(run: Run) -> list[Run]:
    """Runs of the same data set and split by other models: their projected and vision blocks are baselines."""
    store = open_store(run.store)
    others = store.readable_runs(lambda other: other.name != run.name)
    return [
        other
        for other in others
        if (other.config.dataset, other.config.split) == (run.config.dataset, run.config.split)
        and (other.config.model.name, other.config.model.revision) != (run.config.model.name, run.config.model.revision)
        and any(kind in other.config.kinds for kind in BASELINES)
    ]


def _baseline_plan(run: Run) -> Plan:
    return plan_blocks(run, [kind for kind in BASELINES if kind in run.config.kinds], None, None)


def _own_baselines(run: Run, rows: Sequence[Row]) -> list[Row]:
    return [_named(run, row) for row in rows if row["kind"] in BASELINES and is_summary(row)]


def _named(run: Run, row: Row) -> Row:
    return {"run": run.name, "model": run.config.model.name, **row}


def _config(
    run: Run, plan: Plan, select: str, seed: int, task: str, own: Mapping[str, Any], others: Sequence[Run]
) -> dict[str, Any]:
    """All that the numbers depend on; the cache's key is its hash."""
    config = run.config
    return {
        "task": task,
        "run": run.name,
        "run_hash": config.hash,
        "model": config.model.name,
        "revision": config.model.revision,
        "dtype": config.model.dtype,
        "dataset": config.dataset,
        "split": config.split,
        "prefix": config.prefix,
        "view": config.view,
        "keys": config.keys,
        "images": len(run.ids),
        "images_hash": hash_ids(run.ids),
        "blocks": [{"kind": kind, "layers": list(ls), "kv_heads": list(hs)} for kind, ls, hs in plan.blocks],
        "select": select,
        "seed": seed,
        "options": {name: value for name, value in own.items() if name not in ("seed", "backend")},
        "baseline_runs": [[other.name, other.config.hash, hash_ids(other.ids)] for other in others],
    }
