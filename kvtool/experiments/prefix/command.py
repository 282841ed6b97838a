"""kvtool prefix: what a text before the image does to a task's scores."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_prefix, complete_run
from kvtool.cli.options import (
    DataOption,
    DevicesOption,
    FormatOption,
    FreshOption,
    LayersOption,
    ModelOfRunsOption,
    PlotOption,
    SelectOption,
    UnitsOption,
    WaitOption,
    data_set_option,
    seed_of,
    store_and_word,
    store_argument,
    task_argument,
)
from kvtool.cli.parsing import (
    given,
    parse_folder,
    parse_kinds,
    parse_layers,
    parse_list,
    parse_model,
)
from kvtool.cli.task_flags import command_with
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.tasks import promptable_tasks

Command = command_with(promptable_tasks)

EXAMPLES = (
    "kvtool prefix study.kv referring-expression",
    "kvtool prefix study.kv referring-expression --conditions none,random \\\n    --layers late",
    "kvtool prefix study.kv referring-expression --prefix 'text:a photo of a cat'",
)


ConditionsOption = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        metavar="NAMES",
        help="Of none,correct,random,incorrect; default: all there are.",
    ),
]
DataSetOption = Annotated[
    str | None, data_set_option("Data set of the run, or over which it is to be extracted.")
]
PrefixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        help='Yours: text:"..." or file:CSV, a text an image; repeatable.',
    ),
]
ScoredKindsOption = Annotated[
    str | None,
    typer.Option("--kinds", metavar="KINDS", help="Comma-separated: value (default), key."),
]
BaseRunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        autocompletion=complete_run,
        help="The run without prefix, where there are several.",
    ),
]


def prefix(
    context: typer.Context,
    store: Annotated[str | None, store_argument(complete_prefix)] = None,
    task: Annotated[str | None, task_argument(complete_prefix)] = None,
    conditions: ConditionsOption = None,
    prefix: PrefixOption = None,
    kinds: ScoredKindsOption = None,
    layers: LayersOption = None,
    run: BaseRunOption = None,
    model: ModelOfRunsOption = None,
    dataset: DataSetOption = None,
    data: DataOption = None,
    select: SelectOption = "max",
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    limit: UnitsOption = None,
    seed: Annotated[int, seed_of("the halves and the intervals")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Compare a task's scores under texts put before the image, with differences to none and paired
    intervals.

    TASK: referring-expression, semantic-correspondence, semantic-segmentation.

    Conditions are what the data set offers: none, correct (caption, class name or domain), random
    (one sentence for all), incorrect (another class or domain); and yours. Each is scored by its
    own best block and by the best block without prefix. Conditions that no run holds are extracted
    first, into STORE; only what is missing.
    """
    import kvtool
    from kvtool.cli.output import check_complete, emit_result, plot_files

    plots = plot_files(plot)
    path, name = store_and_word(store, task, "TASK")
    with console.progress(f"prefix {name}", None, unit="blocks") as advance:
        result = kvtool.prefix(
            path,
            name,
            conditions=parse_list(conditions),
            prefix=prefix or (),
            run=run,
            model=parse_model(model),
            dataset=dataset,
            data=parse_folder(data),
            select=select,
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            limit=limit,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **given(kinds=parse_kinds(kinds), layers=parse_layers(layers)),
            **context.obj,
        )
    for note in result.config["notes"]:
        console.log.info("%s: %s", name, note)
    emit_result(result, format, plots)
    compared = f"{result.config['images']} compared"
    check_complete(result, "images were left out of every condition", compared)
