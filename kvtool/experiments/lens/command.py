"""kvtool lens: what the final norm and the head read at image tokens, after each layer."""

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
    ImagesOption,
    LayersOption,
    ModelFolderOption,
    PlotOption,
    RunOption,
    StoreArgument,
    TokensOption,
    WaitOption,
    need_store,
    seed_of,
)
from kvtool.cli.parsing import parse_folder, parse_layers, parse_model, parse_tokens
from kvtool.errors import UsageError

EXAMPLES = (
    "kvtool lens study.kv",
    "kvtool lens study.kv --layers late --tokens all --plot lens.pdf",
    "kvtool lens study.kv --image COCO_val2014_000000001007 -o words.png",
)


ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="ID",
        help="Read one image: the likeliest words at each of its patches.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="FILE.png",
        help="With --image: file of its picture with a word on each patch.",
    ),
]
TextOption = Annotated[
    Path | None,
    typer.Option(
        "--text",
        metavar="FILE",
        help="Sentences, one a line, that word directions are made of. The default is the data "
        "set's captions.",
    ),
]


def lens(
    store: StoreArgument = None,
    run: RunOption = None,
    image: ImageOption = None,
    out: OutOption = None,
    layers: LayersOption = None,
    tokens: TokensOption = "64",
    text: TextOption = None,
    limit: ImagesOption = None,
    model: ModelFolderOption = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, seed_of("the patches, intervals and permutations")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Measure whether words find the patches that they name, after each decoder layer.

    Measure lens: the logit that the final norm and the head give the word of a category (its first
    piece), and the word's rank in the vocabulary. Measure directions: the residual
    stream along the word's direction, which is made of sentences alone. auroc says how well either
    tells patches that show the category from others: 0.5 is chance, permuted is what words of other
    categories get, text what the measure gets on words in sentences.

    The data set needs concepts with masks (see kvtool data check). With --image none are needed:
    the likeliest words at each patch, after four layers or those of --layers.

    Streams follow from a run's keys, values and projected tokens of all layers, and the model.
    """
    import kvtool
    from kvtool.cli.output import check_complete, emit_result, plot_files

    plots = plot_files(plot)
    if image is not None and plots:
        raise UsageError("--plot: draws the measure; for the words of an image give -o FILE.png")
    n_tokens = parse_tokens(tokens)
    target_run = kvtool.open(need_store(store)).run(run)
    with console.progress("lens", None) as advance:
        result = kvtool.lens(
            target_run,
            image=image,
            out=out,
            layers=parse_layers(layers),
            tokens=n_tokens,
            text=text,
            limit=limit,
            model=parse_model(model),
            data=parse_folder(data),
            device=device,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
        )
    for note in result.config["notes"]:
        console.log.warning("%s", note)
    emit_result(result, format, plots)
    check_complete(result, "images were left out", f"{result.n} images measured")
