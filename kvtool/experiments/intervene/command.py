"""kvtool intervene: ask a benchmark's questions while text attends otherwise in chosen heads."""

from __future__ import annotations

from typing import Annotated, Literal

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
    "kvtool intervene study.kv --benchmark pope:POPE --heads agnostic --limit 2 \\\n"
    "    --method scale:0,2",
    "kvtool intervene study.kv --benchmark pope:POPE --heads lowest:2 --limit 2 \\\n"
    "    --method block --method redistribute:0.5 --select split",
    "kvtool intervene study.kv --benchmark mme:MME --heads 1:0,2:0 --limit 2 \\\n"
    "    --method contrast:1 --controls random",
)


ChangedHeadsOption = Annotated[
    str,
    typer.Option(
        "--heads",
        metavar="SOURCE",
        help=f"Heads to change: {HEAD_SOURCES}",
    ),
]
MethodOption = Annotated[
    list[str],
    typer.Option(
        "--method",
        metavar="METHOD",
        help="What is done: block, scale:A, redistribute:P, mean-key, mean-value, contrast:L or "
        "temperature:T. Several strengths with commas, scale:0,0.5,2; repeat it for several "
        "methods.",
    ),
]
SelectOption = Annotated[
    Literal["split"] | None,
    typer.Option(
        "--select",
        help="Choose method, strength and heads, all of them or one alone, on one half of the "
        "pictures and score them on the other.",
    ),
]


def intervene(
    benchmark: BenchmarkOption,
    heads: ChangedHeadsOption,
    method: MethodOption,
    store: StoreArgument = None,
    select: SelectOption = None,
    threshold: ThresholdOption = None,
    layers: LayersOption = None,
    controls: ControlsOption = None,
    draws: DrawsOption = 1,
    style: StyleOption = "plain",
    after_question: AfterQuestionOption = "",
    question_dtype: QuestionDtypeOption = None,
    max_new_tokens: MaxNewTokensOption = 16,
    answers: AnswersOption = None,
    model: ModelOfRunsOption = None,
    run: RunOption = None,
    limit: ImagesOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the halves, controls and intervals")] = 0,
    fresh: FreshAnswersOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    rows: RowsOption = "summary",
    format: FormatOption = "auto",
) -> None:
    """Ask a benchmark's questions while text attends otherwise to the image in chosen heads.

    block: text does not see the image (kvtool knockout is this one). scale:A: attention times A
    before the softmax. redistribute:P: a share P of what the strongest 1 % of image tokens draw
    goes to the others, in proportion. temperature:T: attention within the image is flatter (above
    1) or sharper, its sum stays. mean-key, mean-value: the mean of the run's image tokens stands in
    for each token's own. contrast:L: the answer's logits, and L times by how much they exceed those
    with the heads blocked.

    Each condition is set beside none, the model as it is: answers by McNemar's test, and the margin
    of the right option. Questions go on from stored caches, as in kvtool knockout.
    """
    import kvtool
    from kvtool.cli.output import check_complete, emit_result, plot_files

    plots = plot_files(plot)
    with console.progress("intervene", None) as advance:
        result = kvtool.intervene(
            need_store(store),
            benchmark,
            heads,
            method,
            select=select,
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
    check_complete(result, "questions were left out", f"{result.n} scored")
