"""A task evaluated on a run: resolve the request, score the blocks, set baselines beside them, keep
the result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import getfile, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.datasets import Spec, open_dataset
from kvtool.datasets.identity import dataset_of
from kvtool.digests import digest_texts
from kvtool.errors import KvtoolError, UsageError
from kvtool.layers import LayerChoice
from kvtool.models.device_names import check_device
from kvtool.result import Result
from kvtool.store import Run, open_store, same_numbers
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share
from kvtool.tasks import TASKS, datasets_for, lack_of, tasks_over
from kvtool.tasks.base import BlockPlan, Select
from kvtool.tasks.blocks import BASELINES, baseline_kinds, baseline_plan, plan_blocks
from kvtool.tasks.language import wordless_kinds
from kvtool.tasks.options import COMMON, check_values, task_options
from kvtool.tasks.predictions import check_free, save_best
from kvtool.tasks.scoring import Scoring
from kvtool.tasks.truth import sizes_of
from kvtool.text_templates import DEFAULT
from kvtool.types import Kind

if TYPE_CHECKING:
    from kvtool.datasets.base import DatasetBase


def evaluate(
    run: Run,
    task: str,
    *,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    ids: Collection[str] | None = None,
    select: str = "max",
    limit: int | None = None,
    device: str = "auto",
    data: str | Path | None = None,
    seed: int = 0,
    fresh: bool = False,
    save_predictions: str | Path | None = None,
    share: Share | None = None,
    progress: Callable[..., None] | None = None,
    **options: Any,
) -> Result:
    """Score every block of a run on a task: `kvtool probe`, and what other experiments build on.

    The parameters are those of kvtool.probe, and so are the errors.
    """
    # What is wrong with a request is said before anything is read or computed.
    kind_of_task = TASKS.load(task)
    check_served(run, task)
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    folder = None if save_predictions is None else Path(save_predictions)
    if folder is not None:
        check_free(folder)
    if device != "auto":
        check_device(device)
    # Options of other tasks are refused: an option without effect would mislead.
    arguments = own_options(task, {**options, "limit": limit, "seed": seed, "select": select})
    task_kinds: tuple[Kind, ...] = kind_of_task.kinds
    notes: list[str] = []
    if kinds is None and "text_template" in options_of(task):
        task_kinds, notes = _with_texts(run, task_kinds, arguments.get("text_template", DEFAULT))
    plan = plan_blocks(run, kinds, layers, heads, task_kinds)
    dataset = dataset_of(run, data)
    _check_annotated(dataset, task)
    # Of some images the result is another one, kept under another key.
    image_ids = set(run.ids) if ids is None else set(run.ids) & set(ids)
    config = _config(
        plan, image_ids if ids is not None else None, select, seed, task, arguments, dataset
    )
    scoring = Scoring(
        store=open_store(run.store),
        plan=plan,
        config=config,
        make_task=lambda compute_device: kind_of_task(
            dataset, sizes_of(run, image_ids), compute_device, **arguments
        ),
        device=device,
        progress=progress,
        share=share or Share(),
        notes=notes,
    )
    other_runs = _other_runs(run, kind_of_task.kinds)
    scoring.notes += _textless_lines(run, kind_of_task.kinds)
    # Blocks of other models' runs over the same pictures are baselines beside these.
    result = scoring.result(other_runs, fresh)
    if folder is not None:
        save_best(scoring.task, plan, result, scoring.compute_device, folder)
    return result


def tasks_of(run: Run) -> list[str]:
    """The tasks that a run's data set can serve, in the order of the table: where it lies as far as
    its files allow, and where it is not there, all that one of its name may serve.
    """
    name = run.config.dataset
    served = tasks_over(name)
    if served and run.place is not None:
        with contextlib.suppress(KvtoolError):
            listed = open_dataset(Spec(name, run.place, run.config.split or None)).tasks
            served = [task for task in served if task in listed or name in TASKS.load(task).serves]
    return served


def count_blocks(
    run: Run,
    task: str,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
) -> int:
    """How many blocks a probe scores, those of other runs included. Errors as probe's."""
    task_kinds = TASKS.load(task).kinds
    check_served(run, task)
    plans = [plan_blocks(run, kinds, layers, heads, task_kinds)]
    # Baselines of other runs are scored too, hence they count.
    plans += [baseline_plan(baseline, task_kinds) for baseline in _other_runs(run, task_kinds)]
    return sum(
        len(layer_numbers) * len(head_numbers)
        for plan in plans
        for _, layer_numbers, head_numbers in plan.blocks
    )


def check_served(run: Run, task: str) -> None:
    """Raises UsageError where a run's data set cannot serve a task."""
    if task not in tasks_over(run.config.dataset):
        raise UsageError(
            f"run {run.name} is over {run.config.dataset}, which cannot serve {task}; "
            f"data sets that can: {', '.join(datasets_for(task)) or 'none'}"
        )


def _check_annotated(dataset: DatasetBase, task: str) -> None:
    """Raises UsageError where a data set lacks the annotations of a task."""
    lack = lack_of(dataset, task)
    if lack:
        raise UsageError(
            f"{dataset.name} {dataset.root}: expected a data set that serves {task}, found {lack}"
        )


def options_of(task: str) -> set[str]:
    """Names of a task's own options, e.g. {"upsample", "backend"}."""
    return set(task_options(task))


def own_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the task takes them. Raises UsageError for one that is not the task's."""
    names = options_of(name)
    # A known option of another task is told apart from a slip of the pen.
    for option in options.keys() - names - COMMON:
        owners = [task for task in TASKS.usable() if option in options_of(task)]
        what = f"is of {' and '.join(owners)} alone" if owners else "is unknown"
        raise UsageError(
            f"probe: the option {option!r} {what}; {name} takes: "
            f"{', '.join(sorted(names)) or 'none of its own'}"
        )
    check_values(name, options)
    parameters = signature(TASKS.load(name)).parameters
    return {option: value for option, value in options.items() if option in parameters}


def algorithm_of(task: str) -> Any:
    """The version of what computes a task's numbers, or where its class says none, a digest of the
    class's file.
    """
    if task in ALGORITHMS:
        return ALGORITHMS[task]
    kind = TASKS.load(task)
    if (version := getattr(kind, "version", None)) is not None:
        return version
    return digest_texts([Path(getfile(kind)).read_text(encoding="utf-8")])


def _with_texts(
    run: Run, task_kinds: tuple[Kind, ...], template: str
) -> tuple[tuple[Kind, ...], list[str]]:
    """The kinds that a task which compares tokens with texts scores of a run when none are named,
    and a line for what is left out: `projected` where there are vectors of texts for `value` alone.
    """
    wordless = wordless_kinds(run, task_kinds, template)
    if wordless != ["projected"] or "value" not in run.config.kinds:
        return task_kinds, []
    line = (
        f"run {run.name}: projected is left out, for no vectors of texts are stored for it; "
        "extract the run again to have them"
    )
    return tuple(kind for kind in task_kinds if kind != "projected"), [line]


def _other_runs(run: Run, task_kinds: Sequence[Kind]) -> list[Run]:
    """Runs of the same data set and split by other models: their projected and vision blocks are
    baselines, where the task is able to score these.
    """
    ours = run.config
    return [
        candidate
        for candidate in open_store(run.store).readable_runs(
            lambda candidate: candidate.name != run.name
        )
        if (candidate.config.dataset, candidate.config.split) == (ours.dataset, ours.split)
        and not same_numbers(candidate.config.model, ours.model)
        and baseline_kinds(candidate, task_kinds)
    ]


def _textless_lines(run: Run, task_kinds: Sequence[Kind]) -> list[str]:
    """A line for each encoder over the same data that no task of texts can be scored on."""
    if "vision" in task_kinds:
        return []
    return [
        f"run {encoder.name} is no baseline: its model ({encoder.config.model.family}) has no text "
        "tower"
        for encoder in _other_runs(run, BASELINES)
        if not encoder.config.layers and not baseline_kinds(encoder, task_kinds)
    ]


def _config(
    plan: BlockPlan,
    ids: Collection[str] | None,
    select: str,
    seed: int,
    task: str,
    options: Mapping[str, Any],
    dataset: DatasetBase,
) -> dict[str, Any]:
    """All that the numbers of a run's own blocks depend on; the result is kept under its hash."""
    return {
        "task": task,
        "algorithm": algorithm_of(task),
        **describe_run(plan.run, ids),
        **({} if ids is None else {"ids_hash": digest_texts(sorted(ids))}),
        "truth_hash": dataset.truth_digest(),
        "blocks": [
            {"kind": kind, "layers": list(ls), "kv_heads": list(hs)} for kind, ls, hs in plan.blocks
        ],
        "select": select,
        "seed": seed,
        # The seed stands by itself, and a backend changes no number.
        "options": {
            name: value
            for name, value in options.items()
            if name not in ("seed", "select", "backend")
        },
    }
