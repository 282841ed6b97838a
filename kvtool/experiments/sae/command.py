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
    CaptionedImagesOption,
    DataOption,
    DeviceOption,
    FormatOption,
    FreshOption,
    LayersOption,
    ModelFolderOption,
    OutlierOption,
    PlotOption,
    RunOption,
    TokensOption,
    WaitOption,
    bounded,
    need_store,
    seed_of,
    store_argument,
)
from kvtool.cli.parsing import (
    given,
    parse_folder,
    parse_layers,
    parse_list,
    parse_model,
    parse_tokens,
)
from kvtool.cli.sae import app

EXAMPLES = (
    "kvtool sae study.kv --sae demo",
    "kvtool sae study.kv --sae 'saes/layer_{layer}' --layers late --tokens all",
    "kvtool sae study.kv --sae none --conditions untrained,other-image --limit 20",
)


SaeOption = Annotated[
    list[str],
    typer.Option(
        "--sae",
        metavar="PATH",
        help="SAEs of the model's decoder: a file, a folder, or a template such as "
        "'saes/layer_{layer}'; demo for those of the shipped model; none for directions of "
        "words, which need no SAE. Repeatable.",
    ),
]
ConditionsOption = Annotated[
    str | None,
    typer.Option(
        "--conditions",
        metavar="NAMES",
        help="Controls to run beside text and image, comma-separated: text-prefix, shuffled, "
        "other-image, random, random-norm, untrained, noise-residual, pca, random-sae. The "
        "default is all of them.",
    ),
]
DescriptionsOption = Annotated[
    Path | None,
    typer.Option(
        "--descriptions",
        metavar="PATH",
        help="Descriptions of features, a file or folder, to compare with the captions.",
    ),
]
MatchByOption = Annotated[
    Literal["lexical", "embedding", "judge"],
    typer.Option(
        "--match-by",
        help="By what a description fits an image: a telling word that its captions have too; "
        "a cosine, or a judge's yes, that only 5 % of other images' captions reach.",
    ),
]
EmbedderOption = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="MODEL",
        help="Model that embeds texts for --match-by embedding; default: the run's own.",
    ),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="MODEL", help="Language model that judges for --match-by judge."
    ),
]
JudgeJsonlOption = Annotated[
    Path | None,
    typer.Option(
        "--judge-jsonl",
        metavar="FILE",
        help="In place of --judge: write the questions to a file, and read answers from it.",
    ),
]
SpliceOption = Annotated[
    bool,
    typer.Option(
        "--splice",
        help="Measure also what the model loses of captions where image tokens are replaced by "
        "their reconstructions; a pass over each image for each layer and SAE.",
    ),
]
MaxPresenceOption = Annotated[
    float,
    bounded(
        "max_presence",
        help="Leave features that fire in a larger share of images, or captions, out of match.",
    ),
]
MaxDensityOption = Annotated[
    float,
    bounded(
        "max_density",
        help="Leave features that fire on a larger share of the captions' tokens out of match.",
    ),
]


@app.callback(invoke_without_command=True, epilog=epilog(*EXAMPLES))
def sae(
    sae: SaeOption,
    store: Annotated[Path | None, store_argument(complete_sae)] = None,
    layers: LayersOption = None,
    tokens: TokensOption = "64",
    conditions: ConditionsOption = None,
    descriptions: DescriptionsOption = None,
    match_by: MatchByOption = "lexical",
    embedder: EmbedderOption = None,
    judge: JudgeOption = None,
    judge_jsonl: JudgeJsonlOption = None,
    splice: SpliceOption = False,
    max_presence: MaxPresenceOption = 0.05,
    max_density: MaxDensityOption = 0.005,
    outlier: OutlierOption = 10.0,
    limit: CaptionedImagesOption = None,
    run: RunOption = None,
    model: ModelFolderOption = None,
    data: DataOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, seed_of("the tokens, the controls and the intervals")] = 0,
    fresh: FreshOption = False,
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
    from kvtool.cli.output import check_complete, emit_result, plot_files, say_notes

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
    say_notes(result, format)
    emit_result(result, format, plots)
    check_complete(result, "images, masks or SAEs were left out", f"{result.n} images scored")
