"""kvtool demo: the whole study on the embedded world and the shipped model, offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.data import Size
from kvtool.cli.options import Format, FormatOption, seed_of
from kvtool.display import shell_path

if TYPE_CHECKING:
    from kvtool.demo.study import DemoStudy
    from kvtool.result import Result

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
    """Write scenes, extract them with the shipped model, run every analysis, say what was found,
    write a page. Offline.

    A line a step and a summary are printed, in a pipe too, with -v each analysis' tables; with
    --format jsonl, json or csv the rows of all. The page, DIR/report.html, has all of it; the store
    is DIR/study.kv. Those of SmolLM2 are DIR/smollm2.html and DIR/smollm2.kv. A second call only
    reads.
    """
    import sys
    from contextlib import ExitStack

    from kvtool.demo.study import DemoStudy, program_of, run_demo
    from kvtool.reporting.emit import emit

    number = 0
    # A pipe has the rows of some 55 results only where it asks for them.
    resolved: Format = "table" if format == "auto" else format
    has_tables = resolved != "table" or console.is_verbose()
    results = []
    with ExitStack() as bars:

        def step(what: str) -> None:
            nonlocal number
            number += 1
            bars.close()
            console.log.info("%d. %s", number, what)
            bars.enter_context(console.progress(what, None, unit=""))

        for result in run_demo(directory, size=size, seed=seed, model=model, step=step):
            bars.close()
            results.append(result)
            if has_tables:
                emit(result, resolved, sys.stdout)
    study = DemoStudy(directory, step, program_of(model))
    if resolved == "table":
        _summarize(results)
    console.log.info("the store is %s; the page is %s", study.store, study.page)
    if resolved == "table":
        console.log.info("to go on:\n%s", "\n".join(f"  {line}" for line in _next(study)))


def _summarize(results: Sequence[Result]) -> None:
    """Print the probes as one table, and a line for each of the other analyses."""
    import sys
    from textwrap import fill

    from kvtool.reporting.digest import findings, score_rows
    from kvtool.reporting.listings import print_rows
    from kvtool.screen import table_console

    title = "best values by each task's own measure, %, 95 % intervals"
    print_rows(score_rows(results), title, sys.stdout)
    width = table_console(sys.stdout).width
    for line in findings(results):
        text = fill(f"- {line}", width, subsequent_indent="  ", break_on_hyphens=False)
        sys.stdout.write(f"{text}\n")


def _next(study: DemoStudy) -> Sequence[str]:
    """Return three commands on the store that a newcomer may try."""
    analysis = next(item for item in study.program.probes if "correspondence" in item.task)
    run = study.extract(analysis.dataset, split=analysis.split)
    store = shell_path(study.store)
    return (
        f"kvtool probe {store} {analysis.task} --run {run} --select split",
        f"kvtool report {store} -o study.html --examples 6",
        f"kvtool store runs {store}",
    )
