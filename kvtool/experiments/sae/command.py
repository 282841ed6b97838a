"""kvtool sae STORE: the residual stream at image tokens in the features of text.

`kvtool sae train` and `kvtool sae check` stand beside it in the group that is here filled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_sae
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import (
    DataOption,
    DeviceOption,
    FormatOption,
    LayersOption,
    PlotOption,
    RunOption,
    WaitOption,
    bounded,
    given,
    need_store,
    parse_folder,
    parse_layers,
    parse_list,
    parse_model,
)
from kvtool.cli.sae import app
from kvtool.errors import PartialError, UsageError
from kvtool.result import Result

EXAMPLES = (
    "kvtool sae study.kv --sae demo",
    "kvtool sae study.kv --sae 'saes/layer_{layer}' --layers late --tokens all",
    "kvtool sae study.kv --sae none --conditions untrained,other-image --limit 20",
)


@app.callback(invoke_without_command=True, epilog=epilog(*EXAMPLES))
def sae(
    sae: Annotated[
        list[str],
        typer.Option(
            "--sae",
            metavar="PATH",
            help="SAEs of the model's decoder: a file, a folder, or a template such as "
            "'saes/layer_{layer}'; demo for those of the shipped model; none for directions of "
            "words, which need no SAE. Repeatable.",
        ),
    ],
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="[STORE]",
            autocompletion=complete_sae,
            help="The store; default: $KVTOOL_STORE.",
        ),
    ] = None,
    layers: LayersOption = None,
    tokens: Annotated[
        str,
        typer.Option(
            "--tokens",
            metavar="N|all",
            help="Number of tokens to read of each image, drawn from all over it; all reads every "
            "one.",
        ),
    ] = "64",
    conditions: Annotated[
        str | None,
        typer.Option(
            "--conditions",
            metavar="NAMES",
            help="Controls to run beside text and image, comma-separated: text-prefix, shuffled, "
            "other-image, random, random-norm, untrained, noise-residual, pca, random-sae. The "
            "default is all of them.",
        ),
    ] = None,
    descriptions: Annotated[
        Path | None,
        typer.Option(
            "--descriptions",
            metavar="PATH",
            help="Descriptions of features, a file or folder, to compare with the captions.",
        ),
    ] = None,
    match_by: Annotated[
        Literal["lexical", "embedding", "judge"],
        typer.Option(
            "--match-by",
            help="By what a description fits an image: a telling word that its captions have too; "
            "a cosine, or a judge's yes, that only 5 % of other images' captions reach.",
        ),
    ] = "lexical",
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            metavar="MODEL",
            help="Model that embeds texts for --match-by embedding; default: the run's own.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", metavar="MODEL", help="Language model that judges for --match-by judge."
        ),
    ] = None,
    judge_jsonl: Annotated[
        Path | None,
        typer.Option(
            "--judge-jsonl",
            metavar="FILE",
            help="In position of --judge: write the questions to a file, and read answers from it.",
        ),
    ] = None,
    splice: Annotated[
        bool,
        typer.Option(
            "--splice",
            help="Measure also what the model loses of captions where image tokens are replaced by "
            "their reconstructions; a pass over each image for each layer and SAE.",
        ),
    ] = False,
    max_presence: Annotated[
        float,
        bounded(
            "max_presence",
            help="Leave features that fire in a larger share of images, or captions, out of match.",
        ),
    ] = 0.05,
    max_density: Annotated[
        float,
        bounded(
            "max_density",
            help="Leave features that fire on a larger share of the captions' tokens out of match.",
        ),
    ] = 0.005,
    outlier: Annotated[
        float,
        bounded(
            "outlier",
            help="Drop tokens whose vector is longer than N times the text's median length.",
        ),
    ] = 10.0,
    limit: Annotated[
        int | None, bounded("limit", help="Read the first N images with captions only.")
    ] = None,
    run: RunOption = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Folder of the run's model, if it moved.")
    ] = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[
        int, bounded("seed", help="Random seed of the tokens, the controls and the intervals.")
    ] = 0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again, even if the store holds the result.")
    ] = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """Read image tokens in the decoder by sparse autoencoders (SAEs) that were trained on text.

    For each layer and condition: how well vectors are given back (mse, fvu, cos), by how many
    features (l0), how long they are, and transfer: features that are chosen on words of captions
    alone are to find the patches that show what the words name (AUROC; 0.5 is chance).

    An error that falls over the layers and a number of features that becomes the text's are no
    evidence that images are aligned with language: both appear for random vectors too, since a
    decoder brings whatever it is given there. Transfer is evidence, as far as it exceeds that of
    the controls, which run by default.

    The run has to hold keys and values of all layers, and projected; its data set captions, and
    for transfer masks of categories.
    """
    import kvtool
    from kvtool.cli.output import plot_files, resolve, write_plots
    from kvtool.reporting.emit import emit

    plots = plot_files(plot)
    options: dict[str, Any] = given(
        layers=parse_layers(layers), conditions=parse_list(conditions), data=parse_folder(data)
    )
    options |= {"match_by": match_by, "embedder": embedder, "judge": judge}
    with console.progress("sae", None, unit="images") as advance:
        result = kvtool.sae(
            need_store(store),
            sae,
            tokens=parse_tokens(tokens),
            descriptions=descriptions,
            judge_jsonl=judge_jsonl,
            splice=splice,
            max_presence=max_presence,
            max_density=max_density,
            outlier=outlier,
            limit=limit,
            run=run,
            model=parse_model(model),
            device=device,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
            **options,
        )
    # A table has the notes itself.
    if resolve(format) != "table":
        for note in result.config["notes"]:
            console.log.info("%s", note)
    emit(result, resolve(format))
    write_plots(result, plots)
    tell_left_out(result)


def tell_left_out(result: Result) -> None:
    """Say what was left out. Raises PartialError where something was."""
    if not result.n_skipped:
        return
    for line in result.skipped:
        console.log.error("left out: %s", line)
    raise PartialError(
        f"sae: {result.n_skipped} images, masks or SAEs were left out, {result.n} images scored"
    )


def parse_tokens(text: str) -> int | Literal["all"]:
    """Return the tokens of a flag: all, or a number of 1 or more. Raises UsageError."""
    if text == "all":
        return "all"
    if not text.isdecimal() or not 0 < int(text[:10]) <= 10**9:
        raise UsageError(f"--tokens: expected all or a number of 1 or more, found {text[:40]!r}")
    return int(text)
