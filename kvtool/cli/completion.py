"""What the shell offers at Tab.

It has to be there at once: registries and folders are listed, nothing is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

RUNS = "runs"
"""The folder of a store that has a folder for each run (kvtool.store.layout, which would import
NumPy here).
"""
PREFIXED = ("referring-expression", "semantic-correspondence", "semantic-segmentation")
PAIRED = (
    "semantic-correspondence",
    "art-style",
    "visual-similarity",
    "relative-depth",
    "image-choice",
    "two-choice",
)
SURFACED = ("semantic-correspondence", "art-style", "visual-similarity", "image-choice")


def complete_probe(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the tasks of `probe`, where STORE is known."""
    from kvtool.tasks import TASKS

    return _after_store(ctx, incomplete, (*TASKS.names(), "all"))


def complete_prefix(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the tasks of `prefix`, where STORE is known."""
    return _after_store(ctx, incomplete, PREFIXED)


def complete_paired(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the tasks of `paired`, where STORE is known."""
    return _after_store(ctx, incomplete, PAIRED)


def complete_surface(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the tasks of `surface`, where STORE is known."""
    return _after_store(ctx, incomplete, SURFACED)


def complete_sae(incomplete: str) -> list[str]:
    """Offer the subcommands of `sae` in STORE's place; files are the shell's own to offer."""
    return _starting(incomplete, ("check", "train"))


def complete_probe_task(incomplete: str) -> list[str]:
    """Offer the tasks that a block can be shown on."""
    from kvtool.tasks import TASKS

    return _starting(incomplete, TASKS.names())


def complete_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of the runs of the store on the line, or of $KVTOOL_STORE."""
    # After a flag without its value the parser leaves the words before it where they were.
    store = ctx.params.get("store") or next(iter(ctx.args), None) or os.environ.get("KVTOOL_STORE")
    if not store:
        return []
    try:
        with os.scandir(Path(store) / RUNS) as entries:
            return _starting(incomplete, (entry.name for entry in entries if entry.is_dir()))
    except (OSError, ValueError):
        return []


def complete_data_set(incomplete: str) -> list[str]:
    """Offer the names of data sets."""
    from kvtool.datasets import DATASETS

    return _starting(incomplete, DATASETS.names())


def complete_benchmark(incomplete: str) -> list[str]:
    """Offer the beginnings of benchmarks."""
    return _starting(incomplete, ("pope:", "mme:", "own:", "scenes", "scenes@mme"))


def _after_store(ctx: typer.Context, incomplete: str, names: Iterable[str]) -> list[str]:
    """In STORE's place, too, where $KVTOOL_STORE names it; files are the shell's own to offer."""
    if ctx.params.get("store") is None and not os.environ.get("KVTOOL_STORE"):
        return []
    return _starting(incomplete, names)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
