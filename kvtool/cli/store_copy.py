"""kvtool store copy: bring runs from one store to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import Format, FormatOption, KindsOption, LayersOption
from kvtool.cli.parsing import parse_kinds, parse_layers
from kvtool.cli.store import app
from kvtool.errors import PartialError

if TYPE_CHECKING:
    from kvtool.store.copying import Copied

__all__ = ["app"]  # with the commands of this module

CopiedRunsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="A run to copy: its name, a beginning that no other has, or what it is of; "
        "repeatable. The default is all runs.",
    ),
]


@app.command(
    "copy",
    epilog=epilog(
        "kvtool store copy study.kv s3://bucket/study.kv",
        "kvtool store copy s3://bucket/study.kv study.kv --kinds value --layers late",
    ),
)
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store to copy from.")],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="The store to copy to; made where it is not there.")
    ],
    run: CopiedRunsOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    format: FormatOption = "auto",
) -> None:
    """Copy runs to another store, part by part: in folders or on object stores, either way.

    Each byte is compared with the checksums that were written with it. What is there already is
    left alone, so that the same command goes on where it was ended. Of chosen kinds or layers a
    run becomes another one, without results.
    """
    from kvtool.store import open_store
    from kvtool.store.copying import copy as copy_runs

    opened = open_store(source)
    chosen_kinds, chosen_layers = parse_kinds(kinds), parse_layers(layers)
    names = [opened.run(name).name for name in run] if run else opened.runs()
    with console.progress("copy", sum(map(opened.count_parts, names)), unit="parts") as advance:
        copied = copy_runs(
            opened,
            target,
            runs=run or None,
            kinds=chosen_kinds,
            layers=chosen_layers,
            progress=advance,
        )
    tell_copied(copied, target, format)


def tell_copied(copied: Copied, target: str, format: Format) -> None:
    """Print what became of each run. Raises PartialError where anything was left out."""
    from kvtool.cli.output import emit_rows

    emit_rows([run.row() for run in copied.runs], format)
    failed = copied.left_out()
    for line in failed:
        console.log.warning("%s", line)
    console.log.info("%s: %d results and answers copied", target, copied.results)
    check_whole(failed, target)


def check_whole(failed: Sequence[str], store: str) -> None:
    """Raise PartialError where parts, runs or results were left out."""
    from kvtool.reporting.numbers import plural

    if failed:
        count = plural(len(failed), "part, run or result", "parts, runs or results")
        raise PartialError(
            f"store {store}: {count} left out, see above: mend what is damaged, then run the same "
            "command again"
        )
