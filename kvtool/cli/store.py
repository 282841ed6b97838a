"""kvtool store: look at a store, check it, and remove runs from it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.options import FormatOption, StoreArgument, need_store, store_and_word
from kvtool.errors import CorruptError

app = typer.Typer(help="Look at a store, check it, remove runs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("info")
def info(store: StoreArgument = None, format: FormatOption = "auto") -> None:
    """What a store holds: version, runs, images, parts, bytes on disk, results, free space."""
    from kvtool.cli.output import emit_rows
    from kvtool.store import open_store

    emit_rows([open_store(need_store(store)).info()], format, title="store")


@app.command("runs")
def runs(store: StoreArgument = None, format: FormatOption = "auto") -> None:
    """The runs of a store with their settings, a row each. The table shows some of them, the other formats all."""
    from kvtool.cli.output import emit_rows, resolve
    from kvtool.store import open_store

    opened = open_store(need_store(store))
    rows = [opened.run(name).info() for name in opened.runs()]
    if resolve(format) == "table":
        rows = [_shown(row) for row in rows]
    emit_rows(rows, format, title="runs")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What fits the width of a terminal: what sets runs apart that are named by their settings, and their sizes."""
    settings = [row["dtype"], row["view"], row["keys"], f"prefix {row['prefix']}", *row["kinds"]]
    layers = row["layers"] or row["vision_layers"]
    images = f"{row['images']} of {row['images_total']}"
    return {"run": row["run"], "settings": settings, "layers": len(layers), "images": images, "bytes": row["bytes"]}


@app.command("verify")
def verify(store: StoreArgument = None, format: FormatOption = "auto") -> None:
    """Read every byte of a store against its checksums and list what is wrong; exit 1 where something is."""
    from dataclasses import asdict

    from kvtool.cli.output import emit_rows
    from kvtool.store import open_store
    from kvtool.store.verify import verify as check

    opened = open_store(need_store(store))
    n_parts = opened.count_parts()
    with console.progress("verify", n_parts, unit="parts") as advance:
        problems = check(opened, progress=advance)
    emit_rows([asdict(problem) for problem in problems], format, title="problems")
    if problems:
        raise CorruptError(f"{opened.path}: expected no problem in {n_parts} parts, found {len(problems)}: see above")
    console.log.info("%s: %d parts, no problem", opened.path, n_parts)


@app.command("remove")
def remove(
    store: Annotated[str | None, typer.Argument(metavar="[STORE]", help="The store; default: $KVTOOL_STORE.")] = None,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The run to remove.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a run and everything extracted for it. Asks first, unless --yes."""
    from kvtool.store import open_store

    path, name = store_and_word(store, run, "RUN")
    opened = open_store(path)
    found = opened.run(name)
    if not yes:
        typer.confirm(f"remove run {name} with {len(found.samples)} images from {path}?", abort=True, err=True)
    opened.remove_run(name)
    console.log.info("%s: removed run %s", path, name)
