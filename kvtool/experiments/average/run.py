"""`kvtool average`: how well each block does on average over tasks, and each layer's best.

See the paper's figures 2 and 11 to 13, and its table 6: the four segmentation tasks, the two
correspondence tasks, each weighing the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvtool.bounds import checked
from kvtool.engine.crew import Devices, crewed
from kvtool.errors import UsageError
from kvtool.experiments.average.means import (
    SCORE,
    TaskScores,
    baseline_means,
    best_of_layers,
    block_means,
    mean_rows,
    subsets,
)
from kvtool.experiments.average.models import (
    AveragedModel,
    check_request,
    find_models,
    scored_models,
    without,
)
from kvtool.experiments.average.probes import TaskProbes
from kvtool.layers import LayerChoice
from kvtool.progress import Progress, called
from kvtool.result import MAX_REASONS, Result, Row, best_row, is_summary, result_key, versions
from kvtool.store import Store, open_store
from kvtool.store.provenance import ALGORITHMS
from kvtool.store.select import StorePath, open_stores
from kvtool.store.shares import sharing
from kvtool.tasks.blocks import DECODER
from kvtool.tasks.by_model import find_runs
from kvtool.tasks.chance import beside_chance
from kvtool.tasks.evaluation import options_of
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.sets import CORRESPONDENCE, SEGMENTATION, TASK_SETS
from kvtool.types import Kind

TASKS_AVERAGED = (*SEGMENTATION, *CORRESPONDENCE)


@checked
@crewed()
def average(
    stores: StorePath | Store | Sequence[StorePath | Store],
    *,
    models: Sequence[str] | None = None,
    runs: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    layers: LayerChoice | None = None,
    heads: Sequence[int] | None = None,
    select: str = "max",
    limit: int | None = None,
    device: str = "auto",
    devices: Devices = None,  # noqa: ARG001  the crew's
    engine: str = "local",  # noqa: ARG001  the crew's
    cpus_per_worker: int = 1,  # noqa: ARG001  the crew's
    data: Mapping[str, str] | None = None,
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | bool | None = None,
    **options: Any,
) -> Result:
    """Return the mean over tasks of every block's score, for each model of some stores.

    A row is about a model, a block and a `subset`: a task by itself, `segmentation`,
    `correspondence` or `all`. Tasks weigh the same; intervals carry each task's own, and chance is
    averaged as scores are. Probes are taken from the stores where they were computed before. Of a
    model that lacks some tasks, or whose run cannot be scored on some, such as one of too few
    pictures, the average is over the others, and `skipped` says so. `items` are the best block of
    each task and the means of these bests, the paper's table 6.

    Raises UsageError for unknown names and tasks that cannot be averaged, KvtoolError where no
    model has any task that can be scored; where other processes still probe, UnfinishedError if
    this process did some of it, else BusyError.

    Args:
        stores: their runs without prefix are sorted by model, whatever store they are in.
        models: the names of the models, by default all language models.
        runs: the names of the runs to use, by default all.
        tasks: the tasks to average, by default those of the four segmentation and the two
            correspondence tasks that there are runs for.
        kinds, layers, heads: as in probe.
        select: how the best block of each task in `items` is chosen, as in probe. The best block of
            an average is always chosen on the same data.
        limit: the most sampling units of a task.
        device: the device.
        devices, engine, cpus_per_worker: several workers, as in probe.
        data: the places of data sets, by their names in the runs.
        seed: the random seed of probes and intervals.
        fresh: whether everything is probed again.
        wait_s: how long to wait for what other processes probe, once all else is done.
        progress: called with (blocks done, note); True shows a bar.
        options: the tasks' options, as in probe.
    """
    names = TASKS_AVERAGED if tasks is None else tuple(tasks)
    check_request(names, select)
    task_options = _task_options(names, options)
    opened = open_stores(stores)
    averaged, sources = find_models(find_runs(opened, runs, "average"), models, names, kinds)
    images, notes = _common_images(averaged)
    request: dict[str, Any] = {"kinds": kinds, "layers": layers, "heads": heads, "limit": limit}
    probing: dict[str, Any] = {"select": select, "device": device, "seed": seed, "fresh": fresh}
    probing |= {"progress": called(progress), **request}
    probes = TaskProbes(images, task_options, data or {}, probing)
    with sharing(wait_s) as share:
        pairs = [(model, task) for model in averaged for task in model.runs]
        share.each(pairs, lambda pair: probes.score(*pair, share.part), "probes")
    skipped = [line for model in averaged for line in model.lacks]
    skipped += [without(*pair, reason) for pair, reason in probes.failures.items()]
    averaged = scored_models(averaged, probes.failures)
    by_model = {
        model.name: [probes.scores[model.name, task] for task in model.runs] for model in averaged
    }
    settings = {
        "request": request,
        "select": select,
        "seed": seed,
        "options": {task: task_options[task] for task in images if task_options[task]},
    }
    config = _config(averaged, by_model, {task: str(source) for task, source in sources.items()})
    result = _result(by_model, config | settings, notes, skipped, len(probes.failures))
    return _kept(opened[0].path, result)


def _kept(store: Path, result: Result) -> Result:
    """Keep a result in a store, and return it."""
    return keep_result(open_store(store), result_key(["average", result.config]), result)


def _task_options(tasks: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each task. Raises UsageError for one that none takes."""
    by_task = {
        task: {name: options[name] for name in options.keys() & options_of(task)} for task in tasks
    }
    if idle := options.keys() - set().union(*by_task.values()):
        raise UsageError(f"average: none of {', '.join(tasks)} takes {', '.join(sorted(idle))}")
    return by_task


def _common_images(models: Sequence[AveragedModel]) -> tuple[dict[str, set[str]], list[str]]:
    """Return the images of each task that all models with the task hold, and notes on others."""
    images: dict[str, set[str]] = {}
    notes = []
    for task in dict.fromkeys(task for model in models for task in model.runs):
        # Models are compared on the same images, or on none.
        image_sets = [set(model.runs[task].ids) for model in models if task in model.runs]
        images[task] = set.intersection(*image_sets)
        if n_others := len(set.union(*image_sets) - images[task]):
            notes.append(f"{task}: {n_others} images that some models lack are left out of all")
        if not images[task]:
            raise UsageError(
                f"average: {task}: expected images that the runs of all models hold, found none; "
                "extract the same images, or average the models one by one"
            )
    if len({tuple(model.runs) for model in models}) > 1:
        notes.append("the models' averages are over different tasks: they are not comparable")
    return images, notes


def _config(
    models: Sequence[AveragedModel],
    by_model: Mapping[str, Sequence[TaskScores]],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    """Return all that the numbers depend on: the probes that are averaged."""
    entries = []
    for model in models:
        probes = [
            {"task": scores.task, "run": scores.run.name, "n": scores.result.n}
            | {"probe_hash": result_key(scores.result.config)}
            for scores in by_model[model.name]
        ]
        entries.append({"name": model.name, "revision": model.identity.revision, "probes": probes})
    (first, *_) = by_model.values()
    return {
        "algorithm": ALGORITHMS["average"],
        "model": ", ".join(model.name for model in models),
        "models": entries,
        "tasks": dict(sources),
        "blocks": first[0].result.config["blocks"],
    }


def _result(
    by_model: Mapping[str, Sequence[TaskScores]],
    config: dict[str, Any],
    notes: Sequence[str],
    skipped: Sequence[str],
    n_unusable: int,
) -> Result:
    """Return the result: rows by model, subset and block, the best of each layer, baselines."""
    rows: list[Row] = []
    baselines: list[Row] = []
    items: list[Row] = []
    for model, scores in by_model.items():
        for subset, members in subsets(scores, TASK_SETS).items():
            labels = {"model": model, "subset": subset}
            rows += [{**labels, **row} for row in block_means(members)]
            baselines += [
                {"average_of": model, "subset": subset, **row} for row in baseline_means(members)
            ]
            items.append({**labels, **_mean_of_bests(members)})
    result = Result(
        command="average",
        task=None,
        metric=SCORE,
        n=sum(scores.result.n for members in by_model.values() for scores in members),
        rows=rows,
        per_layer=best_of_layers(rows),
        baselines=baselines,
        items=items,
        config=config | {"notes": [*notes, *_probe_notes(by_model)]},
        versions=versions(),
        n_skipped=len(skipped),
        n_unusable=n_unusable,
        skipped=list(skipped[:MAX_REASONS]),
        chance=[chance_row(model, scores) for model, scores in by_model.items()],
    )
    return replace(result, best=_best(result))


def _probe_notes(by_model: Mapping[str, Sequence[TaskScores]]) -> list[str]:
    """Return what the probes left out, once."""
    lines = (
        f"{scores.task}: {line}"
        for members in by_model.values()
        for scores in members
        for line in scores.result.skipped
    )
    return list(dict.fromkeys(lines))[:MAX_REASONS]


def _mean_of_bests(scores: Sequence[TaskScores]) -> Row:
    """Return the mean over tasks of each task's own best block; of one task also which it is."""
    bests = [task.result.best for task in scores]
    if any(best is None for best in bests):
        return {SCORE: None, "n_tasks": len(scores)}
    best_rows = [best for best in bests if best is not None]
    rows = [[task.row(best)] for task, best in zip(scores, best_rows, strict=True)]
    (mean,) = mean_rows(rows, [task.source for task in scores])
    if len(scores) > 1:
        return mean
    block = {name: best_rows[0][name] for name in ("kind", "layer", "kv_head")}
    return {**block, **mean, "run": scores[0].run.name}


def chance_row(model: str, scores: Sequence[TaskScores]) -> Row:
    """Return what the best predictor of each task that knows nothing gets on average, and how the
    mean of random ones is spread from draw to draw.
    """
    means = block_means(scores)
    first = next((row for row in means if row["kind"] in DECODER), next(iter(means), None))
    if first is None:
        return {"kind": None, "model": model, "predictor": MEAN_GUESS, SCORE: None}
    level = {SCORE + end: first["chance" + end] for end in ("", "_low", "_high")}
    row = {"kind": first["kind"], "model": model, "predictor": MEAN_GUESS, **level}
    guesses = [(task, guess) for task in scores if (guess := _random_guess(task)) is not None]
    row |= {"n_tasks": len(scores), "n": first["n"], "draws": 1}
    if guesses:
        # Tasks are drawn independently: the variances of their means add up.
        deviations = [task.factor * guess["draws_sd"] for task, guess in guesses]
        row["draws_sd"] = sum(deviation**2 for deviation in deviations) ** 0.5 / len(scores)
        row["draws"] = min(guess["draws"] for _, guess in guesses)
    return row


MEAN_GUESS = "mean of each task's best guess"


def _random_guess(task: TaskScores) -> Row | None:
    """Return the row of a task's chance level where that is of a random predictor."""
    names = {row.get("chance_kind") for row in task.blocks.values()}
    rows = [row for row in task.result.chance if is_summary(row) and "draws_sd" in row]
    return next((row for row in rows if row["predictor"] in names), None)


def _best(result: Result) -> Row | None:
    """Return the best block of the decoder's kinds by the mean of all tasks, beside chance."""
    rows = [row for row in result.rows if row["subset"] == "all"]
    blocks = [row for row in rows if row["kind"] in DECODER] or rows
    best = best_row(blocks, SCORE)
    if best is None:
        return None
    ours = [row for row in result.chance if row["model"] == best["model"]]
    n_blocks = sum(row["model"] == best["model"] for row in blocks)
    best = {**best, "chance_kind": MEAN_GUESS, "select": "max"}
    return beside_chance(best, replace(result, chance=ours), n_blocks, "max")
