"""kvtool probe: score every (kind, layer, kv_head) of a run on a perception task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    FormatOption,
    KindsOption,
    LayersOption,
    RunOption,
    given,
    parse_kinds,
    parse_numbers,
    store_and_word,
)

Backend = Literal["auto", "faiss-gpu", "faiss-cpu", "torch"]


def probe(
    store: Annotated[str | None, typer.Argument(metavar="[STORE]", help="The store; default: $KVTOOL_STORE.")] = None,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="The task, or all.")] = None,
    run: RunOption = None,
    kinds: KindsOption = None,
    layers: LayersOption = None,
    heads: Annotated[str | None, typer.Option("--heads", metavar="HEADS", help="KV heads, e.g. 0-3.")] = None,
    select: Annotated[
        Literal["max", "split"],
        typer.Option("--select", help="Best block on the data it is scored on, or on the other half of it."),
    ] = "max",
    data: Annotated[
        Path | None, typer.Option("--data", help="Where the data set is now, if not where it was extracted from.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda:0, ...")] = "auto",
    backend: Annotated[Backend, typer.Option("--backend", help="Of nearest neighbours.")] = "auto",
    upsample: Annotated[bool, typer.Option("--upsample", help="Match on bilinearly upsampled targets.")] = False,
    episodes: Annotated[int | None, typer.Option("--episodes", min=1, help="Few-shot episodes (default 1000).")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of episodes and intervals.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute again, even if the store holds the result.")] = False,
    format: FormatOption = "auto",
) -> None:
    """Score every (kind, layer, kv_head) of a run on a perception task. Never loads the model.

    TASK: foreground-segmentation, semantic-correspondence, or all that the run's data set can serve.
    """
    import kvtool
    from kvtool.cli.output import resolve
    from kvtool.probes import tasks_of
    from kvtool.reports.results import emit

    path, name = store_and_word(store, task, "TASK")
    opened = kvtool.open(path)
    found = opened.run(run)
    options = given(
        kinds=parse_kinds(kinds),
        layers=parse_numbers(layers, "--layers"),
        heads=parse_numbers(heads, "--heads"),
        data=data,
        episodes=episodes,
    )
    for one in tasks_of(found) if name == "all" else [name]:
        with console.progress(f"probe {one}", None, unit="blocks") as advance:
            result = kvtool.probe(
                found,
                one,
                select=select,
                device=device,
                backend=backend,
                upsample=upsample,
                seed=seed,
                fresh=fresh,
                progress=advance,
                **options,
            )
        emit(result, resolve(format))
