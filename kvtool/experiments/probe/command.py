"""kvtool probe: score every (kind, layer, kv_head) of a run on a perception task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_probe
from kvtool.cli.options import (
    DataOption,
    DeviceOption,
    Format,
    FormatOption,
    FreshOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    PlotOption,
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
from kvtool.errors import PartialError, UsageError
from kvtool.tasks import TASKS

if TYPE_CHECKING:
    from kvtool.result import Result
    from kvtool.store import Run

Command = command_with(lambda: list(TASKS.usable()))

EXAMPLES = (
    "kvtool probe study.kv all",
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
    device: DeviceOption = "auto",
    limit: UnitsOption = None,
    seed: Annotated[int, seed_of("the episodes and the intervals")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    save_predictions: SavePredictionsOption = None,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Score every (kind, layer, kv_head) of a run on a perception task. Never loads the model.

    TASK: foreground-segmentation, co-segmentation, semantic-segmentation, referring-expression,
    semantic-correspondence, temporal-correspondence or one of a plug-in; or all, for every one that
    the run's data set serves. Options that only some tasks take name them.
    """
    import kvtool
    from kvtool.cli.output import plot_files, write_plots
    from kvtool.store.shares import sharing
    from kvtool.tasks.predictions import check_free

    path, name = store_and_word(store, task, "TASK")
    blocks = given(kinds=parse_kinds(kinds), layers=parse_layers(layers), heads=parse_heads(heads))
    probed_run = kvtool.open(path).run(run)
    options_by_task = _options_by_task(probed_run, name, context.obj)
    if save_predictions is not None:
        check_free(save_predictions)
    is_of_several = name == "all"
    plots = {task: plot_files(plot, task if is_of_several else "") for task in options_by_task}

    unusable: dict[str, int] = {}

    def score(task: str) -> None:
        folder = save_predictions / task if save_predictions and is_of_several else save_predictions
        with console.progress(f"probe {task}", None, unit="blocks") as advance:
            result = kvtool.probe(
                probed_run,
                task,
                select=select,
                device=device,
                seed=seed,
                fresh=fresh,
                share=share.part,
                save_predictions=folder,
                progress=advance,
                **blocks,
                **given(data=parse_folder(data), limit=limit),
                **options_by_task[task],
            )
        _print(task, result, format)
        write_plots(result, plots[task])
        unusable[task] = result.n_unusable

    with sharing(wait) as share:
        share.each(options_by_task, score, "tasks")
    _check_usable(unusable)


def _options_by_task(run: Run, name: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each task to score: of one all that were set, of "all" each task's own.

    Raises UsageError for "all" where the run's data set serves none, or none takes an option.
    """
    from kvtool.tasks.evaluation import options_of, tasks_of

    if name != "all":
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


def _print(task: str, result: Result, format: Format) -> None:
    """Print the rows of a task's result, and what was left out."""
    from kvtool.cli.output import emit_result

    for line in result.skipped:
        console.log.warning("%s: %s", task, line)
    emit_result(result, format)


def _check_usable(unusable: dict[str, int]) -> None:
    """Raise PartialError where annotations or pictures of a task cannot be used."""
    if parts := [f"{count} of {task}" for task, count in unusable.items() if count]:
        raise PartialError(
            f"probe: annotations or pictures cannot be used and were left out: {', '.join(parts)}"
        )
