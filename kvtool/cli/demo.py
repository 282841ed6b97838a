"""kvtool demo: the whole study on the embedded world and the shipped model, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.data import Size
from kvtool.cli.options import FormatOption, bounded

EXAMPLES = (
    "kvtool demo",
    "kvtool demo large-demo --size large --seed 1",
)


def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where scenes and store go.")
    ] = Path("kvtool-demo"),
    size: Annotated[Size, typer.Option("--size", help="How many scenes.")] = "small",
    seed: Annotated[int, bounded("seed", help="Of the scenes.")] = 0,
    format: FormatOption = "auto",
) -> None:
    """Write scenes, extract them with the shipped model, run every analysis, print the tables,
    write a page. Offline.

    The page, DIR/report.html, has all of it; the store is DIR/study.kv. A second call only reads.
    """
    import sys
    from contextlib import ExitStack

    from kvtool.cli.output import resolve
    from kvtool.demo.study import run_demo
    from kvtool.reporting.emit import emit

    number = 0
    with ExitStack() as bars:

        def step(what: str) -> None:
            nonlocal number
            number += 1
            bars.close()
            console.log.info("%d. %s", number, what)
            bars.enter_context(console.progress(what, None, unit=""))

        for result in run_demo(directory, size=size, seed=seed, step=step):
            bars.close()
            emit(result, resolve(format), sys.stdout)
    console.log.info(
        "the store is %s; the page is %s", directory / "study.kv", directory / "report.html"
    )
