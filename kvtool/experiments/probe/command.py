"""kvtool probe: score every (kind, layer, kv_head) of a run on a perception task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_probe
from kvtool.cli.options import (
    DataOption,
    DevicesOption,
    Format,
    FormatOption,
    FreshOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    PlotOption,
    RowsOption,
    RunOption,
    SelectOption,
    UnitsOption,
    WaitOption,
    seed_of,
    store_and_word,
    store_argument,
    task_argument,
)
from kvtool.cli.parsing import given, parse_folder, parse_heads, parse_kinds, parse_layers
from kvtool.cli.task_flags import command_with
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.errors import PartialError, UsageError
from kvtool.tasks import TASKS

if TYPE_CHECKING:
    from kvtool.result import Result, RowChoice
    from kvtool.store import Run, Store

ALL = "all"
"""Every task of a run, and every run of a store."""

Command = command_with(lambda: list(TASKS.usable()))

EXAMPLES = (
    "kvtool probe study.kv all --run all",
    "kvtool probe study.kv semantic-correspondence --layers middle",
    "kvtool probe study.kv semantic-correspondence --heads 0-1 --plot scores.pdf",
)


SavePredictionsOption = Annotated[
    Path | None,
    typer.Option(
        "--save-predictions", metavar="DIR", help="New folder for what the best block predicts."
    ),
]


def probe(
    context: typer.Context,
    store: Annotated[str | None, store_argument(complete_probe)] = None,
    task: Annotated[str | None, task_argument(complete_probe, "The task, or all.")] = None,
    run: RunOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    select: SelectOption = "max",
    data: DataOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    limit: UnitsOption = None,
    seed: Annotated[int, seed_of("the episodes and the intervals")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    save_predictions: SavePredictionsOption = None,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Score every (kind, layer, kv_head) of a run on a perception task. Never loads the model.

    TASK: foreground-segmentation, co-segmentation, semantic-segmentation, referring-expression,
    semantic-correspondence, temporal-correspondence or one of a plug-in; or all, for every one that
    the run's data set serves. --run all scores it on every run that serves it. Options that only
    some tasks take name them.
    """
    import kvtool
    from kvtool.cli.output import plot_files, write_plots
    from kvtool.engine.processes import standing
    from kvtool.store.shares import sharing
    from kvtool.tasks.predictions import check_free

    path, name = store_and_word(store, task, "TASK")
    blocks = given(kinds=parse_kinds(kinds), layers=parse_layers(layers), heads=parse_heads(heads))
    probes = _probes(kvtool.open(path), run, name, context.obj)
    if save_predictions is not None:
        check_free(save_predictions)
    plots = {probe: plot_files(plot, probe.label) for probe in probes}

    unusable: dict[str, int] = {}

    def score(probe: _Probe) -> None:
        with console.progress(f"probe {probe.task}", None, unit="blocks") as advance:
            result = kvtool.probe(
                probe.run,
                probe.task,
                select=select,
                devices=device,
                engine=engine,
                cpus_per_worker=cpus_per_worker,
                seed=seed,
                fresh=fresh,
                share=share.part,
                save_predictions=save_predictions and save_predictions / probe.label,
                progress=advance,
                **blocks,
                **given(data=parse_folder(data), limit=limit),
                **probe.options,
            )
        _print(probe.task, result, format, rows)
        write_plots(result, plots[probe])
        unusable[probe.label or probe.task] = result.n_unusable

    with standing(), sharing(wait) as share:
        share.each(probes, score, "tasks")
    _check_usable(unusable)


@dataclass(frozen=True, eq=False)
class _Probe:
    """A task to score on a run. label: its part of the names of files, where there are several."""

    run: Run
    task: str
    options: dict[str, Any]
    label: str = ""


def _probes(store: Store, run: str | None, task: str, options: dict[str, Any]) -> list[_Probe]:
    """Return what there is to score: a task or all of them, on a run or on all that serve one.

    Raises UsageError where nothing can be scored.
    """
    from kvtool.tasks.evaluation import tasks_of

    if task != ALL:
        TASKS.load(task)
    if run != ALL:
        one_run = store.run(run, lambda stored: task == ALL or task in tasks_of(stored))
        return [
            _Probe(one_run, name, task_options, name if task == ALL else "")
            for name, task_options in _options_by_task(one_run, task, options).items()
        ]
    served = [(stored, tasks_of(stored)) for stored in store.first_runs()]
    serving = [stored for stored, tasks in served if tasks and task in (ALL, *tasks)]
    if not serving:
        expected = "a task" if task == ALL else task
        raise UsageError(f"store {store.address}: expected runs that serve {expected}, found none")
    return [
        _Probe(stored, name, task_options, f"{stored.name}-{name}")
        for stored in serving
        for name, task_options in _options_by_task(stored, task, options).items()
    ]


def _options_by_task(run: Run, name: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each task to score: of one all that were set, of "all" each task's own.

    Raises UsageError for "all" where the run's data set serves none, or none takes an option.
    """
    from kvtool.tasks.evaluation import options_of, tasks_of

    if name != ALL:
        return {name: options}
    tasks = tasks_of(run)
    if not tasks:
        raise UsageError(
            f"run {run.name} is over {run.config.dataset}, which serves no task: extract another "
            "one"
        )
    names = {task: options_of(task) for task in tasks}
    if idle := options.keys() - set().union(*names.values()):
        raise UsageError(
            f"probe all: no task of this run takes {', '.join(sorted(idle))}; its tasks: "
            f"{', '.join(tasks)}"
        )
    return {task: {key: options[key] for key in options.keys() & names[task]} for task in tasks}


def _print(task: str, result: Result, format: Format, rows: RowChoice) -> None:
    """Print the rows of a task's result, and what was left out."""
    from kvtool.cli.output import emit_result

    for line in result.skipped:
        console.log.warning("%s: %s", task, line)
    emit_result(result, format, rows=rows)


def _check_usable(unusable: dict[str, int]) -> None:
    """Raise PartialError where annotations or pictures of a task cannot be used."""
    if parts := [f"{count} of {task}" for task, count in unusable.items() if count]:
        raise PartialError(
            f"probe: annotations or pictures cannot be used and were left out: {', '.join(parts)}"
        )
