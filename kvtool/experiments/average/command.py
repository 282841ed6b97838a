"""kvtool average: the mean over tasks of every block's score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    DataFoldersOption,
    DevicesOption,
    FormatOption,
    FreshOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    PlotOption,
    RowsOption,
    RunsOption,
    SelectOption,
    StoresArgument,
    UnitsOption,
    WaitOption,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import (
    given,
    parse_folders,
    parse_heads,
    parse_kinds,
    parse_layers,
    parse_list,
)
from kvtool.cli.task_flags import command_with
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.errors import PartialError

EXAMPLES = (
    "kvtool average study.kv",
    "kvtool average study.kv --tasks semantic-correspondence --layers middle",
    "kvtool average first.kv second.kv --plot average.pdf",
)


def _tasks() -> Sequence[str]:
    from kvtool.tasks.sets import CORRESPONDENCE, SEGMENTATION

    return (*SEGMENTATION, *CORRESPONDENCE)


Command = command_with(_tasks)


ModelsOption = Annotated[
    str | None,
    typer.Option(
        "--models",
        help="Average these models only, comma-separated. The default is every language model.",
    ),
]
TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        help="Tasks to average, comma-separated. The default is all six, as far as there are "
        "runs for them.",
    ),
]


def average(
    context: typer.Context,
    stores: StoresArgument = None,
    models: ModelsOption = None,
    runs: RunsOption = None,
    tasks: TasksOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    select: SelectOption = "max",
    data: DataFoldersOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    limit: UnitsOption = None,
    seed: Annotated[int, seed_of("the episodes and the intervals")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Average the scores of every (kind, layer, kv_head) over tasks, as the paper's figures 2 and
    11 to 13 and its table 6 do. Never loads the model.

    The tasks are the four segmentation tasks, the two correspondence tasks, and all six; each
    weighs the same, and each interval carries the tasks' own. Probes that the stores hold are used,
    others are computed. A task that a model has no run for is named, and its average is over the
    others; exit code 4 where --tasks asked for it, and where a run cannot be scored on its task,
    such as one of too few images. Several models are set side by side on the same
    images.
    """
    import kvtool
    from kvtool.cli.output import emit_result, plot_files

    plots = plot_files(plot)
    with console.progress("average", None, unit="blocks") as advance:
        result = kvtool.average(
            stores or [need_store(None)],
            select=select,
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            data=parse_folders(data, "--data"),
            **given(
                models=parse_list(models),
                runs=parse_list(runs),
                tasks=parse_list(tasks),
                kinds=parse_kinds(kinds),
                layers=parse_layers(layers),
                heads=parse_heads(heads),
                limit=limit,
            ),
            **context.obj,
        )
    for line in (*result.skipped, *result.config["notes"]):
        console.log.warning("average: %s", line)
    emit_result(result, format, plots, rows)
    if result.n_unusable or (tasks is not None and result.n_skipped):
        raise PartialError(
            f"average: {result.n_skipped} of the tasks are missing or cannot be scored, the "
            "averages are over the others"
        )
