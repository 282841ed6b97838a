"""kvtool data: say what a data set serves, and write the embedded world to disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_data_set
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import FormatOption, seed_of
from kvtool.errors import DatasetError, PartialError, UsageError

if TYPE_CHECKING:
    from kvtool.tasks.survey import Served

app = typer.Typer(
    help="Check data sets, and make some.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=epilog("kvtool data check scenes@msrc", "kvtool data scenes scenes --only msrc,davis"),
)


LISTED = 20
"""How many reasons are printed; all are counted."""
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
    seed: Annotated[int, seed_of("the scenes: same seed and size, same bytes")] = 0,
    size: Annotated[Size, typer.Option("--size", help="small takes seconds.")] = "small",
    only: Annotated[
        str | None, typer.Option("--only", help="Comma-separated data sets; default: all twelve.")
    ] = None,
    format: FormatOption = "auto",
) -> None:
    """Write the embedded world of drawn scenes in the official layouts of twelve data sets.

    DIR/{pascal5i,msrc,imagenet-s,refcoco,spair71k,davis,coco,pope,mme,blink,cvbench,bdd10k}, each
    as its own project lays it out, so that e.g. --dataset spair71k:DIR/spair71k reads it.
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


@app.command(
    "check",
    epilog=epilog("kvtool data check scenes@msrc", "kvtool data check scenes@pope --format json"),
)
def check(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:PATH][@SPLIT]",
            help="A data set as extract --dataset takes it.",
            autocompletion=complete_data_set,
        ),
    ],
    format: FormatOption = "auto",
) -> None:
    """Say what a data set serves, and what is missing for the rest, before anything is extracted.

    Every picture and annotation is looked at as the commands would: a row for the images, the
    texts, captions, concepts, each task, knockout, the paired tasks and each prefix, with counts of
    what can be used and of what is left out. Exit code 0 where nothing is left out, 4 where
    something is, 1 where no picture can be used.
    """
    from kvtool.asking.paired.tasks import survey_paired
    from kvtool.cli.output import emit_rows, resolve
    from kvtool.datasets import open_dataset
    from kvtool.reporting.numbers import plural
    from kvtool.tasks.survey import all_left_out, read_pictures, survey

    dataset = open_dataset(spec)
    with console.progress("pictures", len(dataset.images()), unit="images") as advance:
        pictures = read_pictures(dataset, advance)
    if not pictures.sizes:
        first = next(iter(pictures.failed.values()))
        raise DatasetError(
            f"{spec}: expected pictures that can be read, found none; first problem: {first}"
        )
    served = [*survey(dataset, pictures), *survey_paired(dataset, pictures.sizes)]
    if resolve(format) == "table":
        _print_served(served, spec)
    else:
        emit_rows([service.row() for service in served], format)
    lines = all_left_out(served)
    for line in lines[:LISTED]:
        console.log.warning("%s", line)
    if len(lines) > LISTED:
        console.log.warning("%s: %d more reasons", spec, len(lines) - LISTED)
    if lines:
        raise PartialError(
            f"{spec}: expected to use all of it, found {plural(len(lines), 'reason')} to leave "
            "something out"
        )


def _print_served(served: Sequence[Served], spec: str) -> None:
    """Print what a data set serves as a table, and what it does not as a line each."""
    from kvtool.cli.output import emit_rows

    columns = ("what", "n", "unit", "images", "classes", "left_out")
    rows = [asdict(service) for service in served if not service.missing]
    emit_rows([{name: row[name] for name in columns} for row in rows], "table", title=spec)
    print()
    for service in served:
        if service.missing:
            print(f"{service.what}: {service.missing}")


def parse_names(text: str) -> list[str]:
    """'msrc, davis' -> ["msrc", "davis"].

    Raises UsageError for none; unknown ones are the library's to know.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--only: expected data sets such as msrc,davis; found {text!r}")
    return names
