"""kvtool compare: paired differences of runs over the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    DataOption,
    DeviceOption,
    FormatOption,
    FreshOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    PlotOption,
    Select,
    UnitsOption,
    WaitOption,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import (
    given,
    parse_folder,
    parse_heads,
    parse_kinds,
    parse_layers,
    parse_list,
)
from kvtool.cli.task_flags import command_with
from kvtool.errors import UsageError
from kvtool.tasks import TASKS

Command = command_with(lambda: list(TASKS.usable()))

EXAMPLES = (
    "kvtool compare study.kv first second semantic-correspondence",
    "kvtool compare study.kv semantic-correspondence --runs first,second,third",
    "kvtool compare study.kv first second semantic-correspondence --select max \\\n"
    "    --plot differences.pdf",
)


WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STORE] [RUN_A RUN_B] TASK",
        help="The store (default: $KVTOOL_STORE), two runs, unless --runs names them, and the "
        "task.",
    ),
]
RunListOption = Annotated[
    str | None,
    typer.Option(
        "--runs",
        metavar="RUN,RUN[,RUN...]",
        help="Runs to compare, the one that the others are compared with first.",
    ),
]
BestBlocksOption = Annotated[
    Select,
    typer.Option(
        "--select",
        help="Choose the best blocks on the other half of the data (split), or on the data "
        "that they are compared on (max), which is optimistic for both runs.",
    ),
]


def compare(
    context: typer.Context,
    words: WordsArgument = None,
    runs: RunListOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    select: BestBlocksOption = "split",
    data: DataOption = None,
    device: DeviceOption = "auto",
    limit: UnitsOption = None,
    seed: Annotated[int, seed_of("the episodes, halves, intervals and swaps")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Compare two runs, or several with the first, on a task: paired differences over the same
    images. Never loads the model.

    A tower before and after training, one model and another, a prefix and none: each difference is
    that of the second run less the first one, over the sampling units that both have, with a paired
    95 % interval and a p, corrected by Holm for all blocks or all runs. Blocks are compared where
    both runs have them, the best of one with the best of the other in any case. Images that a run
    lacks, or of which it holds another picture, are left out, named and counted.
    """
    import kvtool
    from kvtool.cli.output import emit_result, plot_files

    store, names, task = _parts(words or [], parse_list(runs))
    plots = plot_files(plot)
    with console.progress(f"compare {task}", None, unit="blocks") as advance:
        result = kvtool.compare(
            need_store(store),
            names,
            task,
            select=select,
            device=device,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **given(
                kinds=parse_kinds(kinds),
                layers=parse_layers(layers),
                heads=parse_heads(heads),
                data=parse_folder(data),
                limit=limit,
            ),
            **context.obj,
        )
    for line in (*result.skipped, *result.config["notes"]):
        console.log.warning("compare: %s", line)
    emit_result(result, format, plots)


def _parts(words: list[str], runs: list[str] | None) -> tuple[Path | None, list[str], str]:
    """Return store, runs and task of the words on the line. Raises UsageError."""
    *front, task = words or [""]
    names = front[-2:] if runs is None else runs
    stores = front[:-2] if runs is None else front
    if not task or len(names) < 2 or len(stores) > 1:
        raise UsageError(
            "compare: expected STORE RUN_A RUN_B TASK, or STORE TASK with --runs A,B,C; found "
            f"{' '.join(words) or 'nothing'}{'' if runs is None else ' --runs ' + ','.join(runs)}"
        )
    return (Path(stores[0]) if stores else None), names, task
