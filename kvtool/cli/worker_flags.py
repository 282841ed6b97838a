"""Flags of commands whose work several workers share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from kvtool.cli.options import bounded

EngineOption = Annotated[
    Literal["local", "ray", "slurm"],
    typer.Option(
        "--engine",
        help="Run workers as processes, tasks of a Ray cluster, or Slurm jobs: docs/clusters.md.",
    ),
]
CpusOption = Annotated[
    int, bounded("cpus_per_worker", metavar="N", help="CPUs of a worker of Ray or Slurm.")
]
