"""kvtool models: which models can be named, and whether one works here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import AttentionOption, DeviceOption, DtypeOption, FormatOption
from kvtool.cli.parsing import parse_model
from kvtool.cli.store_group import StoreGroup
from kvtool.errors import ModelError

if TYPE_CHECKING:
    from kvtool.models.outcome import ModelCheck

EXAMPLES = ("kvtool models", "kvtool models --format json")
CHECK_EXAMPLES = (
    "kvtool models check demo --dtype float32",
    "kvtool models check demo --picture photo.jpg",
    "kvtool models check demo-tower --dtype float32",
)

app = typer.Typer(cls=StoreGroup, rich_markup_mode=None)


@app.callback(invoke_without_command=True, epilog=epilog(*EXAMPLES))
def models(format: FormatOption = "auto") -> None:
    """List the model families that `extract --model` takes: any checkpoint, by hub id or folder;
    what the views of a picture are, and what is special. `kvtool models check` says whether a model
    works here.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.models import families

    shipped = [
        *("demo", "demo-tower", "demo@1", "demo@2", "demo@3"),
        *("demo-adapter", "smollm2-adapter"),
    ]
    rows = [{"model_type": "shipped with kvtool", "examples": shipped, "views": "", "special": ""}]
    rows += [
        {
            "model_type": name,
            "examples": list(families.EXAMPLES.get(name, ())),
            "views": families.VIEWS.get(name, ""),
            "special": families.SPECIAL.get(name, ""),
        }
        for name in families.FAMILIES.names()
    ]
    rows.append(
        {
            "model_type": "any other of image and text in transformers",
            "examples": [],
            "views": "one: the picture without tiles",
            "special": "tried in the common form; kvtool models check says what came of it",
        }
    )
    emit_rows(rows, format, title="models")


@app.command("check", epilog=epilog(*CHECK_EXAMPLES))
def check(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="The model: a hub id, a folder, or demo.")
    ],
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
            metavar="FILE",
            help="A picture that is not square. Default: one of random colors.",
        ),
    ] = None,
    dtype: DtypeOption = "bfloat16",
    attention: AttentionOption = "sdpa",
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Check that a model works here: a row for each check of each view of a picture, and of a video
    made of it where the model takes videos.

    The map from pixels to tokens is proven by changing cells; image keys and values are compared
    with those of the whole prompt, under two questions, and in a batch; logits that go on from
    stored arrays with the whole prompt's; and where no head sees the picture, it must change
    nothing. Of an encoder alone: the map, a batch, and its last layer beside what its class gives.
    Exit code 1 where a check fails.
    """
    import kvtool
    from kvtool.cli.output import emit_rows

    with console.progress("check", None, unit="checks") as advance:
        outcomes = kvtool.check_model(
            parse_model(model) or model,
            picture=picture,
            device=device,
            dtype=dtype,
            attention=attention,
            progress=advance,
        )
    emit_rows([outcome.row() for outcome in outcomes], format, title=f"checks of {model}")
    _refuse(outcomes)


def _refuse(outcomes: tuple[ModelCheck, ...]) -> None:
    """Raise ModelError where a check failed."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        raise ModelError(
            f"models check: expected {len(outcomes)} checks that hold, found {len(failed)} that do "
            f"not; the first: {failed[0].check} of the {failed[0].view} view: {failed[0].meaning}"
        )
