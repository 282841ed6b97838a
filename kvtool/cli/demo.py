"""kvtool demo: the whole study on the embedded world and the shipped model, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.data import Size
from kvtool.cli.options import FormatOption, seed_of

EXAMPLES = (
    "kvtool demo",
    "kvtool demo large-demo --size large --seed 1",
    "kvtool demo --model smollm2",
)
Subject = Literal["demo", "smollm2"]


def demo(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where scenes and store go.")
    ] = Path("kvtool-demo"),
    size: Annotated[Size, typer.Option("--size", help="How many scenes.")] = "small",
    seed: Annotated[int, seed_of("the scenes")] = 0,
    model: Annotated[
        Subject,
        typer.Option(
            "--model",
            help="The shipped model, or SmolLM2: a language model of 30 layers, from the extra "
            "smollm2, which reads images through a shipped adapter.",
        ),
    ] = "demo",
    format: FormatOption = "auto",
) -> None:
    """Write scenes, extract them with the shipped model, run every analysis, print the tables,
    write a page. Offline.

    The page, DIR/report.html, has all of it; the store is DIR/study.kv. Those of SmolLM2 are
    DIR/smollm2.html and DIR/smollm2.kv. A second call only reads.
    """
    import sys
    from contextlib import ExitStack

    from kvtool.cli.output import resolve
    from kvtool.demo.study import DemoStudy, program_of, run_demo
    from kvtool.reporting.emit import emit

    number = 0
    with ExitStack() as bars:

        def step(what: str) -> None:
            nonlocal number
            number += 1
            bars.close()
            console.log.info("%d. %s", number, what)
            bars.enter_context(console.progress(what, None, unit=""))

        for result in run_demo(directory, size=size, seed=seed, model=model, step=step):
            bars.close()
            emit(result, resolve(format), sys.stdout)
    study = DemoStudy(directory, step, program_of(model))
    console.log.info("the store is %s; the page is %s", study.store, study.page)
