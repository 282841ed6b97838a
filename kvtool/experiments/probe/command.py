"""kvtool probe: score every (kind, layer, kv_head) of a run on a perception task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_probe
from kvtool.cli.options import (
    DataOption,
    DeviceOption,
    FormatOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    PlotOption,
    RunOption,
    WaitOption,
    bounded,
    given,
    parse_folder,
    parse_heads,
    parse_kinds,
    parse_layers,
    store_and_word,
)
from kvtool.cli.task_flags import command_with
from kvtool.errors import PartialError, UsageError
from kvtool.tasks import TASKS

Command = command_with(lambda: list(TASKS.usable()))

EXAMPLES = (
    "kvtool probe study.kv all",
    "kvtool probe study.kv semantic-correspondence --layers middle",
    "kvtool probe study.kv semantic-correspondence --heads 0-1 --plot scores.pdf",
)


def probe(
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="[STORE]",
            autocompletion=complete_probe,
            help="The store; default: $KVTOOL_STORE.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", autocompletion=complete_probe, help="The task, or all."),
    ] = None,
    run: RunOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    select: Annotated[
        Literal["max", "split"],
        typer.Option(
            "--select", help="Best block on the data it is scored on, or on the other half of it."
        ),
    ] = "max",
    data: DataOption = None,
    device: DeviceOption = "auto",
    limit: Annotated[int | None, bounded("limit", help="Sampling units at most.")] = None,
    seed: Annotated[int, bounded("seed", help="Of episodes and intervals.")] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compute again, even if the store holds the result.")
    ] = False,
    wait: WaitOption = 0.0,
    save_predictions: Annotated[
        Path | None,
        typer.Option(
            "--save-predictions", metavar="DIR", help="New folder for what the best block predicts."
        ),
    ] = None,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Score every (kind, layer, kv_head) of a run on a perception task. Never loads the model.

    TASK: foreground-segmentation, co-segmentation, semantic-segmentation, referring-expression,
    semantic-correspondence, temporal-correspondence or one of a plug-in; or all, for every one that
    the run's data set serves. Options that only some tasks take name them.
    """
    import kvtool
    from kvtool.cli.output import plot_files, resolve, write_plots
    from kvtool.reporting.emit import emit
    from kvtool.store.shares import sharing
    from kvtool.tasks.evaluation import options_of, tasks_of
    from kvtool.tasks.predictions import check_free

    path, name = store_and_word(store, task, "TASK")
    blocks = given(
        kinds=parse_kinds(kinds),
        layers=parse_layers(layers),
        heads=parse_heads(heads),
    )
    opened = kvtool.open(path)
    found = opened.run(run)
    own = context.obj
    tasks = tasks_of(found) if name == "all" else [name]
    if not tasks:
        raise UsageError(
            f"run {found.name} is over {found.config.dataset}, which serves no task: extract "
            "another one"
        )
    if name == "all" and (
        idle := own.keys() - {option for one in tasks for option in options_of(one)}
    ):
        raise UsageError(
            f"probe all: no task of this run takes {', '.join(sorted(idle))}; its tasks: "
            f"{', '.join(tasks)}"
        )
    if save_predictions is not None:
        check_free(save_predictions)
    plots = {one: plot_files(plot, one if name == "all" else "") for one in tasks}

    unusable: dict[str, int] = {}

    def score(one: str) -> None:
        options = {key: own[key] for key in own.keys() & options_of(one)} if name == "all" else own
        with console.progress(f"probe {one}", None, unit="blocks") as advance:
            result = kvtool.probe(
                found,
                one,
                select=select,
                device=device,
                seed=seed,
                fresh=fresh,
                share=share.part,
                save_predictions=save_predictions / one
                if save_predictions and name == "all"
                else save_predictions,
                progress=advance,
                **blocks,
                **given(data=parse_folder(data), limit=limit),
                **options,
            )
        for line in result.skipped:
            console.log.warning("%s: %s", one, line)
        emit(result, resolve(format))
        write_plots(result, plots[one])
        unusable[one] = result.n_unusable

    with sharing(wait) as share:
        share.each(tasks, score, "tasks")
    if parts := [f"{count} of {task_name}" for task_name, count in unusable.items() if count]:
        raise PartialError(
            f"probe: annotations or pictures cannot be used and were left out: {', '.join(parts)}"
        )
