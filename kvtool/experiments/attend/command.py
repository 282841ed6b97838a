"""kvtool attend: where texts look on pictures, per layer and head, from stored caches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_benchmark
from kvtool.cli.options import (
    DataOption,
    DevicesOption,
    FormatOption,
    FreshOption,
    ImagesOption,
    LayersOption,
    MaxNewTokensOption,
    ModelFolderOption,
    PlotOption,
    RunOption,
    StoreArgument,
    WaitOption,
    bounded,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import parse_folder, parse_layers, parse_list, parse_model
from kvtool.cli.worker_flags import CpusOption, EngineOption

EXAMPLES = (
    "kvtool attend study.kv --expressions --plot heads.pdf",
    'kvtool attend study.kv --question "Is there a cat?" --limit 4 \\\n    --save maps -o drawn',
    "kvtool attend study.kv --sinks --limit 6",
)


QuestionOption = Annotated[
    str | None,
    typer.Option(
        "--question",
        metavar="TEXT",
        help="Ask this about each picture; {concept} in it stands for each thing that the "
        "picture shows, where the data set has masks.",
    ),
]
ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="ID[,ID...]",
        help="Ask about these pictures alone. The default is all of the run.",
    ),
]
BenchmarkOption = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        metavar="SPEC",
        autocompletion=complete_benchmark,
        help="Ask a benchmark's questions: pope:PATH, mme:PATH[@all], or any data set with "
        "questions, e.g. own:PATH.",
    ),
]
ExpressionsOption = Annotated[
    bool,
    typer.Option("--expressions", help="Ask RefCOCO's sentences, each about its object."),
]
SinksOption = Annotated[
    bool,
    typer.Option(
        "--sinks",
        help="Measure which image tokens draw attention whatever the text, key by key. Without "
        "a source of texts it asks for a description.",
    ),
]
FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="last|question|answer|WORD",
        help="Whose attention: that of the last token before the answer, of the question's "
        "tokens, of the answer's, or of a word in the question.",
    ),
]
SaveOption = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="DIR",
        help="Write the attention of every head on every image token, a file <id>.npz for "
        "each text.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="DIR",
        help="Draw the map of the localization heads over each picture, <id>.png.",
    ),
]
EachTokenOption = Annotated[
    bool,
    typer.Option(
        "--each-token",
        help="With --out: draw a picture for each token that looks, such as each of an answer.",
    ),
]


def attend(
    store: StoreArgument = None,
    run: RunOption = None,
    question: QuestionOption = None,
    image: ImageOption = None,
    benchmark: BenchmarkOption = None,
    expressions: ExpressionsOption = False,
    sinks: SinksOption = False,
    from_: FromOption = "last",
    layers: LayersOption = None,
    localization: Annotated[
        int,
        bounded(
            "localization",
            help="Number of localization heads to choose. No more are found than were among the "
            "ten of lowest spatial entropy in some text.",
        ),
    ] = 3,
    limit: ImagesOption = None,
    save: SaveOption = None,
    out: OutOption = None,
    each_token: EachTokenOption = False,
    max_new_tokens: MaxNewTokensOption = 16,
    model: ModelFolderOption = None,
    data: DataOption = None,
    device: DevicesOption = "auto",
    engine: EngineOption = "local",
    cpus_per_worker: CpusOption = 1,
    seed: Annotated[int, seed_of("the halves, intervals and permutations")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Measure where texts look on the pictures of a run, for every query head of every layer.

    mass is a head's attention on the picture, entropy how evenly it is spread over the picture's
    tokens (1: evenly), sink_share how much of it lies on the strongest 1 %. Where the object of a
    text is known, auroc says how well the map tells it from what is around it (0.5 is chance) and
    pointing how often the strongest token lies in it; permuted is what objects of other pictures
    get.

    The localization heads are chosen without masks on one half of the pictures and scored on the
    other. No picture is run again: stored keys and values serve, and the softmax is the model's.
    """
    import kvtool
    from kvtool.cli.output import check_complete, emit_result, plot_files
    from kvtool.reporting.numbers import plural

    plots = plot_files(plot)
    target_run = kvtool.open(need_store(store)).run(run)
    with console.progress("attend", None) as advance:
        result = kvtool.attend(
            target_run,
            question=question,
            image=parse_list(image),
            benchmark=benchmark,
            expressions=expressions,
            sinks=sinks,
            from_=from_,
            layers=parse_layers(layers),
            localization=localization,
            limit=limit,
            save=save,
            out=out,
            each_token=each_token,
            max_new_tokens=max_new_tokens,
            model=parse_model(model),
            data=parse_folder(data),
            devices=device,
            engine=engine,
            cpus_per_worker=cpus_per_worker,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
        )
    for note in result.config["notes"]:
        console.log.warning("%s", note)
    emit_result(result, format, plots)
    noun = "picture" if result.task == "sinks" else "text"
    check_complete(result, "left out", f"{plural(result.n, noun)} measured")
