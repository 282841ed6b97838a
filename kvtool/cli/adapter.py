"""kvtool adapter: linear layers through which a language model reads a vision tower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import (
    CaptionedImagesOption,
    DeviceOption,
    Format,
    FormatOption,
    RunOption,
    bounded,
    data_set_option,
    seed_of,
)
from kvtool.types import Precision

app = typer.Typer(
    help="Join a frozen language model and a frozen vision tower by one linear layer.",
    epilog=epilog(
        "kvtool adapter info demo-adapter",
        "kvtool adapter train --lm demo --vision demo-tower --dataset own:mine \\\n    -o trained",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

LanguageOption = Annotated[
    str,
    typer.Option(
        "--lm",
        help="Language model: hub id or folder, smollm2, or a multimodal model, of which the "
        "decoder is taken.",
    ),
]
CaptionsOption = Annotated[
    str | None,
    data_set_option(
        "Data set whose captions are learned. The default, with a store, is that of its run."
    ),
]
OutOption = Annotated[
    Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the adapter.")
]
LayerOption = Annotated[
    int | None,
    bounded("layer", help="Tower layer whose patches are read, from 0. The default is its last."),
]
PoolOption = Annotated[int, bounded("pool", help="Average patches over squares, N a side.")]
MarkerOption = Annotated[
    bool,
    typer.Option(
        "--keep-marker",
        help="Put the text <image> before what the user asks, as the study of Venhoff et al. did.",
    ),
]


VisionOption = Annotated[
    str,
    typer.Option(
        "--vision",
        metavar="MODEL|STORE",
        help="Vision tower: hub id, folder or demo-tower; or a store that holds its features.",
    ),
]
StartOption = Annotated[
    Literal["random", "ridge"],
    typer.Option(
        "--start",
        help="Start from a random layer, or from the one that comes closest to the words for "
        "what patches show, where the data set has masks.",
    ),
]
QuestionOption = Annotated[
    str, typer.Option("--question", help="What the user asks; a caption is the answer.")
]
EpochsOption = Annotated[int, bounded("epochs", help="Number of passes over all captions.")]
StepsOption = Annotated[
    int | None, bounded("steps", help="Number of batches to train on, in place of --epochs.")
]
BatchSizeOption = Annotated[int, bounded("batch_size", help="Number of captions of a batch.")]
LearningRateOption = Annotated[
    float, bounded("learning_rate", help="Highest learning rate of AdamW.")
]
PrecisionOption = Annotated[
    Precision, typer.Option("--dtype", help="Precision in which both models run.")
]


@app.command(
    "train",
    epilog=epilog(
        "kvtool adapter train --lm demo --vision demo-tower --dataset own:mine \\\n"
        "    --steps 4 -o trained",
        "kvtool adapter train --lm demo --vision demo-tower --dataset own:mine \\\n"
        "    --start ridge --pool 2 --epochs 2 -o pooled",
    ),
)
def train(
    lm: LanguageOption,
    vision: VisionOption,
    out: OutOption,
    dataset: CaptionsOption = None,
    run: RunOption = None,
    layer: LayerOption = None,
    pool: PoolOption = 1,
    start: StartOption = "random",
    question: QuestionOption = "Describe the image.",
    keep_marker: MarkerOption = False,
    epochs: EpochsOption = 1,
    steps: StepsOption = None,
    batch_size: BatchSizeOption = 8,
    learning_rate: LearningRateOption = 2e-3,
    limit: CaptionedImagesOption = None,
    seed: Annotated[int, seed_of("the start, the order and what is held out")] = 0,
    dtype: PrecisionOption = "bfloat16",
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Train the layer on the captions of a data set. Both models stay as they are.

    A tenth of the pictures is held out, 500 at most: loss (the cross-entropy of a caption's token)
    and right (the share of tokens found) are of these; loss_start is before training, loss_other
    behind another picture. DIR is a model afterwards: --model adapter:DIR. The same command goes on
    where it was interrupted.
    """
    import kvtool

    with console.progress("adapter train", None, unit="steps") as advance:
        trained = kvtool.adapter_train(
            out,
            lm=lm,
            vision=vision,
            dataset=dataset,
            run=run,
            layer=layer,
            pool=pool,
            start=start,
            question=question,
            keep_marker=keep_marker,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            limit=limit,
            seed=seed,
            dtype=dtype,
            device=device,
            progress=advance,
        )
    for line in trained.skipped:
        console.log.warning("adapter train: left out: %s", line)
    _emit(trained.row(), trained.row(), format)


@app.command(
    "info",
    epilog=epilog(
        "kvtool adapter info demo-adapter",
        "kvtool adapter info adapter --format json",
    ),
)
def info(
    adapter: Annotated[
        str,
        typer.Argument(
            metavar="DIR", help="Folder of an adapter, or smollm2-adapter or demo-adapter."
        ),
    ],
    format: FormatOption = "auto",
) -> None:
    """What an adapter joins, how it was trained, and whether both models are here as they were."""
    import kvtool

    facts = kvtool.adapter_info(adapter)
    _emit(facts.row(), facts.shown(), format)


@app.command(
    "import",
    epilog=epilog(
        "kvtool adapter import layer.pth --lm demo --vision demo-tower -o imported",
        "kvtool adapter import adapter/adapter.safetensors --lm demo \\\n"
        "    --vision demo-tower --keep-marker -o marked",
    ),
)
def import_(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Weight and bias of a linear layer: .safetensors, or .pth of torch.",
        ),
    ],
    lm: LanguageOption,
    vision: Annotated[str, typer.Option("--vision", help="Vision tower: hub id or folder.")],
    out: OutOption,
    layer: LayerOption = None,
    pool: PoolOption = 1,
    keep_marker: MarkerOption = False,
    format: FormatOption = "auto",
) -> None:
    """Make an adapter of a layer that others trained, such as those of Venhoff et al.

    Of torch's files tensors alone are read: one with code in it is refused.
    """
    import kvtool

    imported = kvtool.adapter_import(
        weights, out, lm=lm, vision=vision, layer=layer, pool=pool, keep_marker=keep_marker
    )
    _emit(imported.row(), imported.shown(), format)


def _emit(row: dict[str, Any], facts: dict[str, Any], format: Format) -> None:
    """Print what an adapter is: a line for each fact on a terminal, else the row."""
    from kvtool.cli.output import emit_rows, resolve

    if resolve(format) == "table":
        row = {
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in facts.items()
        }
    emit_rows([row], format)
