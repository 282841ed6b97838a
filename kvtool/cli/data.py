"""kvtool data: write the embedded world to disk."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import Format, FormatOption

app = typer.Typer(help="Make data sets.", no_args_is_help=True, rich_markup_mode=None)


class Size(StrEnum):
    small = "small"
    medium = "medium"
    large = "large"


@app.command("scenes")
def scenes(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write; made if missing.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed and size, same bytes.")] = 0,
    size: Annotated[Size, typer.Option("--size", help="small takes seconds.")] = Size.small,
    only: Annotated[str | None, typer.Option("--only", help="Comma-separated data sets; default: all twelve.")] = None,
    format: FormatOption = Format.auto,
) -> None:
    """Write the embedded world of drawn scenes in the official layouts of twelve data sets.

    DIR/{pascal5i,msrc,imagenet-s,refcoco,spair71k,davis,coco,pope,mme,blink,cvbench,bdd10k}, each as its own project
    lays it out, so that e.g. --dataset spair71k:DIR/spair71k reads it.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.scenes.layouts import write_scenes

    with console.progress("scenes", None) as advance:
        counts = write_scenes(
            directory, seed=seed, size=size.value, only=only.split(",") if only else None, progress=advance
        )
    emit_rows([{"dataset": name, "images": n, "path": str(directory / name)} for name, n in counts.items()], format)
