"""kvtool knockout: ask a benchmark's questions with the image blocked from text in chosen heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.head_flags import (
    HEAD_SOURCES,
    BenchmarkOption,
    ControlsOption,
    DrawsOption,
    ThresholdOption,
)
from kvtool.cli.options import (
    AfterQuestionOption,
    AnswersOption,
    DevicesOption,
    FormatOption,
    FreshAnswersOption,
    ImagesOption,
    LayersOption,
    MaxNewTokensOption,
    ModelOfRunsOption,
    PlotOption,
    QuestionDtypeOption,
    RowsOption,
    RunOption,
    StoreArgument,
    StyleOption,
    WaitOption,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import parse_layers, parse_list, parse_model
from kvtool.cli.worker_flags import CpusOption, EngineOption

EXAMPLES = (
    "kvtool knockout study.kv --benchmark pope:POPE --heads agnostic",
    "kvtool knockout study.kv --benchmark pope:POPE --each --limit 20",
    "kvtool variance study.kv --threshold 2 \\\n"
    "    | kvtool knockout study.kv --benchmark mme:MME --heads - --layers late",
)


BlockedHeadsOption = Annotated[
    str | None,
    typer.Option(
        "--heads",
        metavar="SOURCE",
        help=f"Heads to block: {HEAD_SOURCES}",
    ),
]
EachOption = Annotated[
    bool,
    typer.Option(
        "--each",
        help="Block every head alone, all in one pass over the questions, in place of --heads: the "
        "change of accuracy and of the answer's margin by layer and head.",
    ),
]
OfficialOption = Annotated[
    Path | None,
    typer.Option(
        "--official",
        metavar="DIR",
        help="Write the answers in the benchmark's format, into DIR/CONDITION/.",
    ),
]


def knockout(
    benchmark: BenchmarkOption,
    store: StoreArgument = None,
    heads: BlockedHeadsOption = None,
    each_head: EachOption = False,
    threshold: ThresholdOption = None,
    layers: LayersOption = None,
    controls: ControlsOption = None,
    draws: DrawsOption = 1,
    style: StyleOption = "plain",
    after_question: AfterQuestionOption = "",
    question_dtype: QuestionDtypeOption = None,
    max_new_tokens: MaxNewTokensOption = 16,
    answers: AnswersOption = None,
    official: OfficialOption = None,
    model: ModelOfRunsOption = None,
    run: RunOption = None,
    limit: ImagesOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the controls and the intervals")] = 0,
    fresh: FreshAnswersOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Ask a benchmark's questions with text blocked from the image's tokens in chosen attention
    heads.

    Conditions: none; chosen, the heads given; its early, middle and late layers alone; and the
    controls, as many heads of the same layers: dependent (on the input) or random. Text keys of a
    blocked head stay visible. With --each, a row for every head alone, of questions with options,
    beside the head's attention and probes where the store holds results of attend and probe.

    Questions go on from the stored cache of an image; images that no run holds are extracted first.
    Answers are kept image by image: an interrupted command goes on where it was, and several at
    once share the images. One that did its share ends with exit code 0 and no result while others
    are still at theirs, unless --wait; one that found nothing to do with 3.
    """
    import kvtool
    from kvtool.cli.output import check_complete, emit_result, plot_files

    plots = plot_files(plot)
    with console.progress("knockout", None) as advance:
        result = kvtool.knockout(
            need_store(store),
            benchmark,
            heads,
            each_head=each_head,
            threshold=threshold,
            layers=parse_layers(layers),
            controls=parse_list(controls) or [],
            draws=draws,
            style=style,
            after_question=after_question,
            question_dtype=question_dtype,
            max_new_tokens=max_new_tokens,
            limit=limit,
            answers=answers,
            official=official,
            run=run,
            model=parse_model(model),
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
        )
    for note in result.config["notes"]:
        console.log.info("%s", note)
    emit_result(result, format, plots, rows)
    check_complete(result, "questions were left out", f"{result.n} {unit(result.task)} scored")


def unit(task: str | None) -> str:
    """Return the name of what a benchmark scores."""
    return "images" if task == "mme" else "questions"
