"""kvtool sae train and kvtool sae check, beside `kvtool sae STORE` (kvtool.experiments.sae)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import (
    DeviceOption,
    DtypeOption,
    FormatOption,
    LayersOption,
    OutlierOption,
    bounded,
    data_set_option,
    seed_of,
)
from kvtool.cli.parsing import parse_layers, parse_model
from kvtool.cli.store_group import StoreGroup
from kvtool.errors import ModelError

if TYPE_CHECKING:
    from kvtool.autoencoders.text_check import CheckedSae
    from kvtool.cli.output import Rows

app = typer.Typer(cls=StoreGroup, no_args_is_help=True, rich_markup_mode=None)
"""The group; what reads a store is its callback (kvtool.experiments.sae.command)."""

IN_LINES = ("path", "format", "hook", "verdict")
"""What a check's table has below it: as columns they would leave no width for one another."""

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="The language model: hub id or folder, also of a multimodal model, whose decoder is "
        "taken.",
    ),
]
TextOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--text", metavar="FILE", help="Text in UTF-8, a document a line; may be repeated."
    ),
]
CaptionsOption = Annotated[
    str | None, data_set_option("In place of --text: the captions of a data set.")
]
ContextOption = Annotated[
    int, bounded("context", help="Tokens that are run together at most; longer texts are cut.")
]


OutOption = Annotated[
    Path,
    typer.Option("-o", "--out", metavar="DIR", help="Folder for the SAEs, one a layer in it."),
]
WidthOption = Annotated[
    str,
    typer.Option(
        "--width",
        metavar="NUMBER|Nx",
        help="Number of features, or how many times the width of the stream.",
    ),
]
KOption = Annotated[int, bounded("k", help="Mean number of active features of a token.")]
StepsOption = Annotated[int, bounded("steps", help="Number of batches of a layer's training.")]
BatchSizeOption = Annotated[int, bounded("batch_size", help="Number of tokens of a batch.")]
MaxTokensOption = Annotated[
    int, bounded("max_tokens", help="Largest number of the text's tokens to train on.")
]


@app.command(
    "train",
    epilog=epilog(
        "kvtool sae train --model demo --text captions.txt --layers 1 \\\n    --steps 300 -o saes",
        "kvtool sae train --model demo --text captions.txt --layers last:2 \\\n"
        "    --width 4x --k 12 --steps 300 -o saes --format json",
    ),
)
def train(
    model: ModelOption,
    out: OutOption,
    text: TextOption = None,
    dataset: CaptionsOption = None,
    layers: LayersOption = None,
    width: WidthOption = "8x",
    k: KOption = 32,
    steps: StepsOption = 1500,
    batch_size: BatchSizeOption = 1024,
    max_tokens: MaxTokensOption = 1_000_000,
    context: ContextOption = 128,
    outlier: OutlierOption = 10.0,
    seed: Annotated[int, seed_of("the weights and the batches")] = 0,
    dtype: DtypeOption = "bfloat16",
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Train BatchTopK SAEs of a language model's layers on its own states over text.

    The text is run once; the states of all layers lie in DIR/.training until all are trained. A
    tenth of the text is held out: fvu (the share of the variance that is missed), l0 (active
    features of a token) and alive (the share of features that fire) are of it. DIR/layer_L is
    written as SAELens writes an SAE, so that every library reads it. The same command goes on where
    it was interrupted.
    """
    import kvtool
    from kvtool.cli.output import emit_rows, resolve

    with console.progress("sae train", None, unit="tokens") as advance:
        trained = kvtool.sae_train(
            out,
            model=parse_model(model) or model,
            text=text or (),
            dataset=dataset,
            layers=parse_layers(layers),
            width=width,
            k=k,
            steps=steps,
            batch_size=batch_size,
            max_tokens=max_tokens,
            context=context,
            outlier=outlier,
            seed=seed,
            dtype=dtype,
            device=device,
            progress=advance,
        )
    rows = [item.row() for item in trained]
    if resolve(format) == "table":
        rows = _narrow(rows, ("path",))
    emit_rows(rows, format, title=f"SAEs in {out}")


@app.command(
    "check",
    epilog=epilog(
        "kvtool sae check --model demo --sae demo",
        "kvtool sae check --model demo --sae demo --text captions.txt --format csv",
    ),
)
def check(
    model: ModelOption,
    sae: Annotated[
        list[str],
        typer.Option(
            "--sae",
            metavar="PATH",
            help="An SAE's file or folder, a folder of many, or a template with {layer}; demo for "
            "the shipped ones; may be repeated.",
        ),
    ],
    text: TextOption = None,
    dataset: CaptionsOption = None,
    max_tokens: Annotated[
        int, bounded("max_tokens", help="Largest number of the text's tokens to check on.")
    ] = 4096,
    context: ContextOption = 128,
    outlier: OutlierOption = 10.0,
    dtype: DtypeOption = "bfloat16",
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Check that SAEs fit a language model: a row for each, with format, layer, hook and sizes.

    On text, by default captions of drawn scenes, an SAE fits where it misses less than 0.9 of the
    variance (fvu), with a number of active features (l0) within a factor 3 of the published one.
    Where it does not, or another layer suits it better, other readings are tried: other layers,
    the decoder's bias, a scale, swapped rows and columns; the verdict names the one that fits. Exit
    code 1 where an SAE does not fit as its files say.
    """
    import kvtool
    from kvtool.cli.output import emit_rows, resolve

    with console.progress("sae check", None, unit="SAEs") as advance:
        checked = kvtool.sae_check(
            sae,
            model=parse_model(model) or model,
            text=text or (),
            dataset=dataset,
            max_tokens=max_tokens,
            context=context,
            outlier=outlier,
            dtype=dtype,
            device=device,
            progress=advance,
        )
    rows = [item.row() for item in checked]
    if resolve(format) == "table":
        numbered = [{"sae": number, **row} for number, row in enumerate(rows, 1)]
        emit_rows(_narrow(numbered, IN_LINES), format, title="SAEs")
        # What has no width stands below, a line each.
        for row in numbered:
            what = ", ".join(str(row[name]) for name in ("format", "hook") if row[name])
            origin = f" ({what})" if what else ""
            typer.echo(f"sae {row['sae']}: {row['verdict']}: {row['path']}{origin}")
    else:
        emit_rows(rows, format, title="SAEs")
    _refuse(checked)


def _narrow(rows: Rows, left_out: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows without some columns, and with numbers as short as a terminal wants them."""
    return [
        {name: _short(value) for name, value in row.items() if name not in left_out} for row in rows
    ]


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _refuse(checked: tuple[CheckedSae, ...]) -> None:
    """Raise ModelError where an SAE does not fit."""
    unfit = [item for item in checked if not item.fits]
    if unfit:
        raise ModelError(
            f"sae check: expected {len(checked)} SAEs that fit, found {len(unfit)} that do not; "
            f"the first: {unfit[0].path}: {unfit[0].verdict}"
        )
