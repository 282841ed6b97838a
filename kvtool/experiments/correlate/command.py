"""kvtool correlate: segmentation by the best values against accuracy on perception, over models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    AfterQuestionOption,
    DataFoldersOption,
    DevicesOption,
    Format,
    FormatOption,
    MaxNewTokensOption,
    PlotOption,
    QuestionDtypeOption,
    RunsOption,
    SelectOption,
    StoresArgument,
    StyleOption,
    WaitOption,
    bounded,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import given, parse_folders, parse_list
from kvtool.cli.task_flags import command_with
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.errors import PartialError

if TYPE_CHECKING:
    from kvtool.result import Result

EXAMPLES = (
    "kvtool correlate study.kv --tasks semantic-segmentation --benchmarks cvbench",
    "kvtool correlate first.kv second.kv third.kv --tasks semantic-segmentation \\\n"
    "    --benchmarks cvbench --plot figure.pdf",
)


def _tasks() -> Sequence[str]:
    from kvtool.tasks.sets import SEGMENTATION

    return SEGMENTATION


Command = command_with(_tasks)


ModelsOption = Annotated[
    str | None, typer.Option("--models", help="Compare these models only, comma-separated.")
]
TasksOption = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        help="Segmentation tasks to average, comma-separated. The default is all four.",
    ),
]
BenchmarksOption = Annotated[
    str | None,
    typer.Option("--benchmarks", help="Benchmarks to ask, of cvbench,blink. The default is both."),
]
QuestionsOption = Annotated[
    int | None,
    bounded(
        "limit",
        help="Largest number of questions of each task or sub-task and image collection.",
    ),
]
PooledOption = Annotated[
    bool,
    typer.Option("--pooled", help="Correlate over the models of all families together too."),
]
ModelFoldersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME=FOLDER",
        help="Folder of a run's model. The option may be repeated.",
    ),
]
FreshScoresOption = Annotated[
    bool, typer.Option("--fresh", help="Probe and ask again, even if the stores hold it.")
]


def correlate(
    context: typer.Context,
    stores: StoresArgument = None,
    models: ModelsOption = None,
    runs: RunsOption = None,
    tasks: TasksOption = None,
    benchmarks: BenchmarksOption = None,
    limit: QuestionsOption = None,
    pooled: PooledOption = False,
    style: StyleOption = "plain",
    after_question: AfterQuestionOption = "",
    question_dtype: QuestionDtypeOption = None,
    max_new_tokens: MaxNewTokensOption = 16,
    model: ModelFoldersOption = None,
    data: DataFoldersOption = None,
    select: SelectOption = "max",
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the episodes and the intervals")] = 0,
    fresh: FreshScoresOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Correlate how well models' values segment with how well the models perceive (the paper's
    figure 3).

    A point is a model: its best value's score averaged over foreground, co-, semantic and referring
    segmentation, and its accuracy on CV-Bench and on BLINK's counting, localization, depth and
    spatial questions. All models are scored on the same images and questions.

    The runs, without prefix, are extracted beforehand, in one store or several: pascal5i, msrc,
    imagenet-s, refcoco with values; cvbench and blink with --kinds key,value. What was probed and
    asked before is taken from the stores. Several at once share probes and images, as kvtool
    knockout does. Coefficients are over the models of one family, its sizes and versions. Without
    three complete models of one there is none: the table all the same, and exit code 4.
    """
    import kvtool
    from kvtool.cli.output import plot_files, write_plots

    plots = plot_files(plot)
    with console.progress("correlate", None, unit="images asked") as advance:
        result = kvtool.correlate(
            stores or [need_store(None)],
            limit=limit,
            pooled=pooled,
            style=style,
            after_question=after_question,
            question_dtype=question_dtype,
            max_new_tokens=max_new_tokens,
            model=parse_folders(model, "--model"),
            data=parse_folders(data, "--data"),
            select=select,
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **given(
                models=parse_list(models),
                runs=parse_list(runs),
                tasks=parse_list(tasks),
                benchmarks=parse_list(benchmarks),
            ),
            **context.obj,
        )
    _print(result, format)
    write_plots(result, plots)
    _report_left_out(result)


def _print(result: Result, format: Format) -> None:
    """Print the rows of a result, and what is to be said of them."""
    from kvtool.cli.output import emit_result, say_notes

    say_notes(result, format, "correlate: ")
    emit_result(result, format)


def _report_left_out(result: Result) -> None:
    """Say which models were left out. Raises PartialError where some were or none correlate."""
    for line in result.skipped:
        console.log.error("left out: %s", line)
    without = not any("coefficient" in row for row in result.rows)
    if result.n_skipped or without:
        tail = ", which is too few for a coefficient" if without else ""
        raise PartialError(
            f"correlate: {result.n_skipped} models were left out, {result.n} compared{tail}"
        )
