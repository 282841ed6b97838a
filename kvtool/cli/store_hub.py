"""kvtool store push and pull: bring runs to the Hugging Face hub, and from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.everywhere import epilog
from kvtool.cli.options import FormatOption, KindsOption, LayersOption
from kvtool.cli.parsing import parse_kinds, parse_layers
from kvtool.cli.store_copy import CopiedRunsOption, app, check_whole, tell_copied

__all__ = ["app"]  # with the commands of this module

HUB = "hf://datasets/OWNER/NAME"


@app.command(
    "push",
    epilog=epilog(
        "kvtool store push study.kv hf://datasets/acme/study",
        "kvtool store push study.kv hf://datasets/acme/study/late --layers late",
    ),
)
def push(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store to push.")],
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help=f"{HUB}[/path]: a data set of the hub, made where there is none.",
        ),
    ],
    run: CopiedRunsOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="Let everybody read a data set that is made by this."),
    ] = False,
    format: FormatOption = "auto",
) -> None:
    """Push runs to a data set of the Hugging Face hub, which is private unless --public is given.

    Each byte is compared with its checksum before; damaged parts are left out. What the hub has
    already is not sent again, so that the same command goes on where it was ended. It takes a token
    that may write: `hf auth login`, or HF_TOKEN.
    """
    from kvtool.cli.output import emit_rows
    from kvtool.store import open_store
    from kvtool.store.hub import push as push_runs

    with _bars_unless_quiet():
        pushed = push_runs(
            open_store(store),
            address,
            runs=run or None,
            kinds=parse_kinds(kinds),
            layers=parse_layers(layers),
            public=public,
        )
    emit_rows([pushed.row()], format)
    for line in pushed.failed:
        console.log.warning("%s", line)
    check_whole(pushed.failed, pushed.store)


@app.command(
    "pull",
    epilog=epilog(
        "kvtool store pull hf://datasets/acme/study pulled.kv",
        "kvtool store pull hf://datasets/acme/study@main pulled.kv --layers late",
    ),
)
def pull(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help=f"{HUB}[/path][@revision]: a store that was pushed; the revision is a branch, tag "
            "or commit.",
        ),
    ],
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="The store to pull into; made where it is not there."),
    ],
    run: CopiedRunsOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    format: FormatOption = "auto",
) -> None:
    """Pull runs from a data set of the Hugging Face hub into a store.

    They are downloaded into a folder beside the store, compared with the checksums that were
    written with them, and copied; what is there already is left alone, so that the same command
    goes on where it was ended. Of chosen kinds or layers a run becomes another one, without
    results.
    """
    from kvtool.store.hub import pull as pull_runs

    with _bars_unless_quiet():
        copied = pull_runs(
            address,
            store,
            runs=run or None,
            kinds=parse_kinds(kinds),
            layers=parse_layers(layers),
        )
    tell_copied(copied, store, format)


@contextmanager
def _bars_unless_quiet() -> Iterator[None]:
    """Let the hub's client show its bars, but with --quiet."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if not console.is_quiet() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
