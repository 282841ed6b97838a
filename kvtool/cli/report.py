"""kvtool report: one self-contained page about the results that stores keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import DataFoldersOption, DeviceOption, StoresArgument, bounded, need_store
from kvtool.cli.parsing import parse_folders

EXAMPLES = (
    "kvtool report study.kv -o page.html",
    'kvtool report first.kv second.kv -o page.html --title "Two models" \\\n    --examples 0',
)


def report(
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="The page, e.g. page.html; overwritten."),
    ],
    stores: StoresArgument = None,
    title: Annotated[str | None, typer.Option("--title", help="Of the page.")] = None,
    examples: Annotated[
        int, bounded("examples", help="Pictures of predictions for each block of a probe; 0: none.")
    ] = 4,
    blocks: Annotated[int, bounded("blocks", help="How many blocks of a probe have them.")] = 6,
    data: DataFoldersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Write one self-contained HTML page about all results of one or several stores, and print its
    path.

    It opens from disk and asks nothing of any server. On it: what was found, in sentences with
    intervals; heatmaps that show a block's categories and examples of what it predicts; curves,
    tables (each also as CSV), input-agnostic keys, knockouts, prefixes, questions whose answer the
    values know and the model does not; configurations, versions and the commands that make it
    again. Never loads the model.
    """
    from rich.filesize import decimal

    import kvtool

    folders = stores or [need_store(None)]
    with console.progress("report", None, unit="results") as advance:
        page = kvtool.report(
            folders,
            out,
            title=title,
            examples=examples,
            blocks=blocks,
            data=parse_folders(data, "--data"),
            device=device,
            progress=advance,
        )
    for note in page.notes:
        console.log.warning("%s", note)
    size = decimal(page.n_bytes)
    console.log.info("results: %d, pictures: %d, %s", page.n_results, page.n_pictures, size)
    print(page.path)
