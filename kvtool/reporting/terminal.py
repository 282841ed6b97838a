"""A result on a terminal: its headline, and below it the tables of its experiment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from rich.console import RenderableType
from rich.text import Text

from kvtool.registry import experiment_part
from kvtool.reporting.fitting import fitted
from kvtool.reporting.scores import score_tables
from kvtool.result import Result
from kvtool.screen import table_console


def print_result(result: Result, stream: IO[str]) -> None:
    """Print a result to a stream, as wide as it is; colors appear only on a terminal."""
    console = table_console(stream)
    for part in render(result):
        console.print(fitted(part, console), crop=False)
        console.print()


def render(result: Result) -> Iterator[RenderableType]:
    """Yield the headline of a result, then the tables as its experiment has them."""
    yield _headline(result)
    part = experiment_part(result.command, "table")
    yield from score_tables(result) if part is None else part.tables(result)


def _headline(result: Result) -> Text:
    config = result.config
    what = result.command if result.task is None else result.task
    if result.task is not None and result.command != "probe":
        what = f"{result.command}: {result.task}"
    parts = [what, config.get("run"), config.get("model"), f"n = {result.n}"]
    if result.n_skipped:
        parts.append(f"{result.n_skipped} left out")
    return Text(" · ".join(str(part) for part in parts if part), style="bold")
