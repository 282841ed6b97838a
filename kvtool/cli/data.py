"""kvtool data: write the embedded world to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import FormatOption, bounded
from kvtool.errors import UsageError

app = typer.Typer(
    help="Make data sets.",
    epilog=epilog("kvtool data scenes scenes", "kvtool data scenes scenes --only msrc,davis"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


Size = Literal["small", "medium", "large"]


@app.command(
    "scenes",
    epilog=epilog(
        "kvtool data scenes scenes",
        "kvtool data scenes scenes --only msrc,davis --seed 1",
    ),
)
def scenes(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; made if missing.")
    ],
    seed: Annotated[int, bounded("seed", help="Same seed and size, same bytes.")] = 0,
    size: Annotated[Size, typer.Option("--size", help="small takes seconds.")] = "small",
    only: Annotated[
        str | None, typer.Option("--only", help="Comma-separated data sets; default: all twelve.")
    ] = None,
    format: FormatOption = "auto",
) -> None:
    """Write the embedded world of drawn scenes in the official layouts of twelve data sets.

    DIR/{pascal5i,msrc,imagenet-s,refcoco,spair71k,davis,coco,pope,mme,blink,cvbench,bdd10k}, each as its own project
    lays it out, so that e.g. --dataset spair71k:DIR/spair71k reads it.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.demo.layouts import write_scenes

    with console.progress("scenes", None, unit="data sets") as advance:
        counts = write_scenes(
            directory,
            seed=seed,
            size=size,
            only=None if only is None else parse_names(only),
            progress=lambda name, done, of: advance(min(done, 1), name, of),
        )
    emit_rows(
        [
            {"dataset": name, "images": n, "path": str(directory / name)}
            for name, n in counts.items()
        ],
        format,
    )
    if not counts:
        console.log.info("nothing to do: %s holds these scenes already", directory)


def parse_names(text: str) -> list[str]:
    """'msrc, davis' -> ["msrc", "davis"]. Raises UsageError for none; unknown ones are the library's to know."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--only: expected data sets such as msrc,davis; found {text!r}")
    return names
