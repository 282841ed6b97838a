"""Flags of commands whose work several workers share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from kvtool.cli.options import bounded

EngineOption = Annotated[
    Literal["local", "ray", "slurm"],
    typer.Option(
        "--engine",
        help="What runs the workers: processes here, tasks of a Ray cluster, or an array of Slurm "
        "jobs; see docs/clusters.md.",
    ),
]
CpusOption = Annotated[
    int, bounded("cpus_per_worker", help="CPUs of a worker on a Ray or Slurm cluster.")
]
