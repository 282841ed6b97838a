"""kvtool store: look at a store, check it, mend it, and remove what is not needed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_run
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import (
    Format,
    FormatOption,
    StoreArgument,
    need_store,
    store_and_word,
    store_argument,
)
from kvtool.display import shorten
from kvtool.errors import CorruptError, UsageError

if TYPE_CHECKING:
    from kvtool.store.repair import Mended

app = typer.Typer(
    help="Look at a store, check it, mend it, remove runs.",
    epilog=epilog(
        "kvtool store info study.kv",
        "kvtool store verify study.kv",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

SHARED = ("model", "prefix", "settings", "kinds", "images", "date")
"""Columns of runs that stand in the heading of a data set whose runs agree in them."""
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]


@app.command(
    "info",
    epilog=epilog(
        "kvtool store info study.kv",
        "kvtool store info study.kv --format json",
    ),
)
def info(store: StoreArgument = None, format: FormatOption = "auto") -> None:
    """What a store holds: version, runs, images, parts, results, free space, and the bytes of all
    its files.

    bytes is their sum; parts_bytes, texts_bytes and so on say what they are for.
    """
    from kvtool.cli.output import emit_rows, resolve
    from kvtool.store import open_store

    row = open_store(need_store(store)).info()
    if resolve(format) == "table":
        # What there is none of takes no line of a record.
        row = {name: value for name, value in row.items() if value or not name.endswith("_bytes")}
    emit_rows([row], format)


@app.command(
    "runs",
    epilog=epilog(
        "kvtool store runs study.kv",
        "kvtool store runs study.kv --format csv > runs.csv",
    ),
)
def runs(store: StoreArgument = None, format: FormatOption = "auto") -> None:
    """The runs of a store with their settings, a row each, and who works on them since when.

    held names each part that someone works on, and answers and scores that someone makes;
    images_per_minute is the pace of the last ten minutes of commits. The table shows some of the
    columns, the other formats all.
    """
    from kvtool.cli.output import emit_rows, resolve
    from kvtool.store import open_store

    opened = open_store(need_store(store))
    rows = [run.info() for run in opened.readable_runs()]
    if resolve(format) != "table":
        emit_rows(rows, format)
        return
    parent = _parent([row["place"] for row in rows if row["place"]])
    if parent:
        sys.stdout.write(f"data sets below {parent}\n\n")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(_data_of(row, parent), []).append(_shown(row))
    for number, (data, shown_rows) in enumerate(groups.items()):
        if number:
            sys.stdout.write("\n")
        # What all runs of a data set share is said once.
        shared = [name for name in SHARED if len({row[name] for row in shown_rows}) == 1]
        heading = [data, *(f"{name} {shown_rows[0][name]}" for name in shared)]
        columns = [name for name in shown_rows[0] if name not in shared]
        columns_shown = [{name: row[name] for name in columns} for row in shown_rows]
        emit_rows(columns_shown, format, title=" · ".join(heading))
    for row in rows:
        for holder in row["held"]:
            console.log.info("run %s: held: %s", row["run"], holder)


def _parent(folders: Sequence[str]) -> str:
    """Return the folder that all data sets lie below, where there are several; "" for none."""
    is_shared = len(set(folders)) > 1 and all(map(os.path.isabs, folders))
    parent = os.path.commonpath(folders) if is_shared else ""
    return "" if parent == os.sep else parent


def _data_of(row: dict[str, Any], parent: str) -> str:
    """Return the data set of a run and where it lies, below the parent of all if they have one."""
    split = f"@{row['split']}" if row["split"] else ""
    folder = os.path.relpath(row["place"], parent) if row["place"] and parent else row["place"]
    return f"{row['dataset']}{split}" + (f" · {folder}" if folder else "")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return what fits the width of a terminal: what sets runs of one data set apart."""
    settings = [row["dtype"], row["view"]]
    if row["keys"] != "post-rope":
        settings.append(f"keys {row['keys']}")
    if row["quantization"]:
        settings.append(f"weights {row['quantization']}")
    if "layer" in row["heads"]:  # which differ from layer to layer
        settings.append(f"heads {row['heads']}")
    if row["system"]:
        settings.append(f"system {shorten(row['system'], 40)}")
    images = f"{row['images']}/{row['images_total']}"
    if row["held"]:
        images += f", {len(row['held'])} held"
        if row["images_per_minute"] is not None:
            images += f", {row['images_per_minute']:g} a minute"
    return {
        "run": row["run"],
        "model": row["model"],
        "prefix": row["prefix"],
        "settings": ", ".join(settings),
        "kinds": ",".join(row["kinds"]),
        "images": images,
        "bytes": row["bytes"],
        "date": (row["last_commit"] or "")[:10],
    }


@app.command(
    "verify",
    epilog=epilog(
        "kvtool store verify study.kv",
        "kvtool store verify study.kv --part 3/7",
    ),
)
def verify(
    store: StoreArgument = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="I/N",
            help="Only the i-th of n shares, e.g. 3/7: one a day checks all in a week.",
        ),
    ] = None,
    format: FormatOption = "auto",
) -> None:
    """Read every byte of a store against its checksums and list what is wrong or gone; exit 1 where
    something is.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.store import open_store
    from kvtool.store.verify import verify as check

    share = _share(part)
    opened = open_store(need_store(store))
    n_parts = opened.count_parts()
    with console.progress("verify", n_parts // share[1], unit="parts") as advance:
        problems = check(opened, progress=advance, share=share)
    emit_rows([problem.row() for problem in problems], format, title="problems")
    what = f"{n_parts} parts" if share == (1, 1) else f"share {part} of {n_parts} parts"
    if problems:
        raise CorruptError(
            f"{opened.address}: expected no problem in {what}, found {len(problems)}: see above; "
            "`kvtool store repair` mends what it can"
        )
    console.log.info("%s: %s, no problem", opened.address, what)


def _share(part: str | None) -> tuple[int, int]:
    if part is None:
        return 1, 1
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--part: expected I/N with I from 1 to N, e.g. 3/7; found {part!r}")
    return int(match[1]), int(match[2])


@app.command(
    "repair",
    epilog=epilog(
        "kvtool store repair study.kv --dry-run",
        "kvtool store repair study.kv",
    ),
)
def repair(
    store: StoreArgument = None, dry_run: DryRunOption = False, format: FormatOption = "auto"
) -> None:
    """Drop what `store verify` finds damaged, so that the same commands make it again; restore what
    has a copy.

    Nothing that verifies is touched. What is left as it is has to be looked at: the last column
    says why.
    """
    from kvtool.store import open_store
    from kvtool.store.repair import repair as mend
    from kvtool.store.repair import restore_root

    path = need_store(store)
    if not dry_run and restore_root(path):
        console.log.info("%s: zarr.json was restored from its copy", path)
    opened = open_store(path)
    _tell(mend(opened, dry_run), format, f"{opened.address}: nothing to repair")


@app.command(
    "prune",
    epilog=epilog(
        "kvtool store prune study.kv --dry-run",
        "kvtool store prune study.kv",
    ),
)
def prune(
    store: StoreArgument = None, dry_run: DryRunOption = False, format: FormatOption = "auto"
) -> None:
    """Remove what belongs to runs that are gone, and what killed processes left.

    Results, answers and pictures of runs that the store no longer has are removed.
    """
    from kvtool.store import open_store
    from kvtool.store.repair import prune as drop

    opened = open_store(need_store(store))
    _tell(drop(opened, dry_run), format, f"{opened.address}: nothing to prune")


def _tell(rows: Sequence[Mended], format: Format, nothing: str) -> None:
    from kvtool.cli.output import emit_rows

    emit_rows([row.row() for row in rows], format)
    if not rows:
        console.log.info("%s", nothing)


@app.command(
    "remove",
    epilog=epilog(
        "kvtool store remove study.kv first-try",
        "kvtool store remove study.kv first-try --yes",
    ),
)
def remove(
    store: Annotated[str | None, store_argument()] = None,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", autocompletion=complete_run, help="The run to remove."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Remove it even if someone, seen or not, still holds parts of it."
        ),
    ] = False,
) -> None:
    """Remove a run, damaged or not, and everything extracted for it. Asks first, unless --yes."""
    from kvtool.store import open_store

    path, name = store_and_word(store, run, "RUN")
    opened = open_store(path)
    n_parts = opened.count_parts(name)
    if not yes:
        typer.confirm(
            f"remove run {name} with {n_parts} parts from {opened.address}?", abort=True, err=True
        )
    opened.remove_run(name, force)
    console.log.info("%s: removed run %s", opened.address, name)
