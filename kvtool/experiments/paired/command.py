"""kvtool paired: the same questions put to the model and to its image values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_paired
from kvtool.cli.options import (
    AfterQuestionOption,
    AnswersOption,
    DataOption,
    DevicesOption,
    Format,
    FormatOption,
    FreshAnswersOption,
    HeadsOption,
    KindsOption,
    LayersOption,
    MaxNewTokensOption,
    ModelFolderOption,
    PlotOption,
    QuestionDtypeOption,
    RowsOption,
    RunOption,
    SelectOption,
    StyleOption,
    WaitOption,
    bounded,
    seed_of,
    store_and_word,
    store_argument,
    task_argument,
)
from kvtool.cli.parsing import (
    given,
    parse_folder,
    parse_heads,
    parse_kinds,
    parse_layers,
    parse_model,
)
from kvtool.cli.worker_flags import CpusOption, EngineOption
from kvtool.errors import PartialError

if TYPE_CHECKING:
    from kvtool.result import Result, RowChoice

Cell = Literal["both", "value-only", "model-only", "neither"]


EXAMPLES = (
    "kvtool paired study.kv art-style",
    "kvtool paired study.kv art-style --show value-only",
    "kvtool paired study.kv art-style --kinds key,value --answers answers.jsonl",
)


ShowOption = Annotated[
    Cell | None,
    typer.Option("--show", help="Print this cell's questions (id, answers) in place of the rows."),
]
QuestionsOption = Annotated[
    int | None,
    bounded(
        "n",
        "--limit",
        "--n",
        help="Largest number of questions. semantic-correspondence makes 200 by default.",
    ),
]
ReadingOption = Annotated[
    Literal["choice", "pck"] | None,
    typer.Option(
        "--reading",
        help="Semantic correspondence: values choose one of four points, or are right by PCK.",
    ),
]
PicturesOption = Annotated[
    Path | None,
    typer.Option(
        "--pictures",
        metavar="DIR",
        help="Semantic correspondence: a new folder for the marked pictures.",
    ),
]
FoldsOption = Annotated[
    int | None,
    bounded("folds", help="Relative depth: number of folds of the probe (default 5)."),
]
StrengthOption = Annotated[
    float | None,
    bounded("c", help="Relative depth: inverse L2 strength of the probe (default 0.01)."),
]


def paired(
    store: Annotated[str | None, store_argument(complete_paired)] = None,
    task: Annotated[str | None, task_argument(complete_paired)] = None,
    run: RunOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    select: SelectOption = "max",
    show: ShowOption = None,
    n: QuestionsOption = None,
    reading: ReadingOption = None,
    pictures: PicturesOption = None,
    folds: FoldsOption = None,
    c: StrengthOption = None,
    answers: AnswersOption = None,
    style: StyleOption = "plain",
    after_question: AfterQuestionOption = "",
    question_dtype: QuestionDtypeOption = None,
    max_new_tokens: MaxNewTokensOption = 16,
    model: ModelFolderOption = None,
    data: DataOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the questions, folds, halves and intervals")] = 0,
    fresh: FreshAnswersOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Set what the model answers beside what its image values know, question by question.

    TASK: semantic-correspondence (four marked points, made of SPair-71k's pairs), art-style,
    visual-similarity, relative-depth (BLINK's val split). Rows are one per (kind, layer, kv_head):
    shares of questions that both, the values alone, the model alone or neither have right, with
    McNemar's test. With --show, rows are questions.

    Answers are kept one by one: an interrupted command goes on, and the weights are loaded for
    missing ones alone. Several at once share the questions. One that did its share ends with exit
    code 0 and no result while others are still at theirs, unless --wait; one that found nothing to
    do with 3.
    """
    import kvtool
    from kvtool.cli.output import plot_files, write_plots

    plots = plot_files(plot)
    path, name = store_and_word(store, task, "TASK")
    with console.progress(f"paired {name}", None, unit="answers and blocks") as advance:
        result = kvtool.paired(
            path,
            name,
            run=run,
            select=select,
            answers=answers,
            style=style,
            after_question=after_question,
            question_dtype=question_dtype,
            max_new_tokens=max_new_tokens,
            model=parse_model(model),
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **given(
                kinds=parse_kinds(kinds),
                layers=parse_layers(layers),
                heads=parse_heads(heads),
                n=n,
                reading=reading,
                pictures=pictures,
                folds=folds,
                c=c,
                data=parse_folder(data),
            ),
        )
    _print(result, show, format, rows)
    write_plots(result, plots)
    _check_usable(name, result)


def _print(result: Result, show: Cell | None, format: Format, rows: RowChoice) -> None:
    """Print the rows of a result, or the questions of one cell, and what was left out."""
    from kvtool.cli.output import emit_result

    for line in result.skipped:
        console.log.warning("left out: %s", line)
    if show is None:
        emit_result(result, format, rows=rows)
    else:
        _emit_cell(result, show, format)


def _check_usable(task: str, result: Result) -> None:
    """Raise PartialError where questions cannot be used."""
    if result.n_unusable:
        raise PartialError(
            f"paired {task}: {result.n_unusable} questions cannot be used and were left out, "
            f"{result.n} compared"
        )


def _emit_cell(result: Result, show: Cell, format: Format) -> None:
    """Print the questions of one cell."""
    from kvtool.cli.output import emit_rows

    questions = [item for item in result.items if item["cell"] == show.replace("-", "_")]
    names = ("id", "label", "answer", "said", "value", "images", "files")
    title = f"{result.task}: {show}, {len(questions)} of {result.n} questions"
    emit_rows(
        [{key: item[key] for key in names if key in item} for item in questions],
        format,
        title=title,
    )
