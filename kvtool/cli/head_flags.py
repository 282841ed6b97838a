"""Flags of commands that ask a benchmark under conditions of heads."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtool.cli.completion import complete_benchmark
from kvtool.cli.options import bounded

HEAD_SOURCES = (
    "agnostic; lowest:N, the keys of lowest variance; best:TASK[:N], of a kept probe; "
    "localization[:N] and sinks[:N], of kept results of attend, the run's own first; all; "
    "layer:head, as 3:1,4:0; "
    "numbers such as 0-3,5 in all layers; or JSON lines of layer, kv_head: a FILE, - for stdin."
)
"""The sources of heads, for a flag's help."""
BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        metavar="SPEC",
        autocompletion=complete_benchmark,
        help="Benchmark to ask: pope:PATH, mme:PATH[@all], scenes, scenes@mme, or any data set "
        "with questions, e.g. blink:PATH, cvbench:PATH, own:PATH.",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Variance below which keys are agnostic. The default is the valley between two modes.",
    ),
]
ControlsOption = Annotated[
    str | None,
    typer.Option(
        "--controls",
        metavar="NAMES",
        help="Controls to draw, comma-separated: dependent, random.",
    ),
]
DrawsOption = Annotated[int, bounded("draws", help="How often each control is drawn.")]
