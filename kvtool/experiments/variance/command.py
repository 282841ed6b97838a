"""kvtool variance: how much each key changes from image to image, and which do not depend on the
input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    FormatOption,
    FreshOption,
    PlotOption,
    RunOption,
    StoreArgument,
    WaitOption,
    need_store,
    seed_of,
)
from kvtool.errors import UsageError
from kvtool.types import VectorKind

if TYPE_CHECKING:
    from kvtool.features.variances import Threshold


EXAMPLES = (
    "kvtool variance study.kv",
    "kvtool variance study.kv --threshold 0.5 --format csv > variance.csv",
    "kvtool variance study.kv --pca bird/2026_000092 -o pictures",
)


MeasuredKindOption = Annotated[
    VectorKind, typer.Option("--kind", help="Kind of vectors to measure.")
]
ThresholdOption = Annotated[
    str,
    typer.Option(
        "--threshold",
        metavar="auto|NUMBER",
        help="Below it a key is input-agnostic. auto is the valley between two modes.",
    ),
]
PcaOption = Annotated[
    str | None,
    typer.Option(
        "--pca",
        metavar="ID[,ID...]",
        help="Ids of images whose principal components are drawn. The option needs -o.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder for the pictures.")
]


def variance(
    store: StoreArgument = None,
    run: RunOption = None,
    kind: MeasuredKindOption = "key",
    threshold: ThresholdOption = "auto",
    pca: PcaOption = None,
    out: OutOption = None,
    seed: Annotated[int, seed_of("the intervals and of the test for two modes")] = 0,
    fresh: FreshOption = False,
    wait: WaitOption = 0.0,
    plot: PlotOption = None,
    format: FormatOption = "auto",
) -> None:
    """L2 variance over images of every (layer, kv_head), and which keys do not depend on the input.

    The cut is the valley between the two modes of the variances. Where there are not two, this says
    so, takes none and leaves input_agnostic empty; --threshold gives one. Early, middle and late
    layers are 0-7, 8-17 and 18-27 of 28, and the same fractions of other depths. Never loads the
    model.

    --pca writes a PNG for each image: the first three principal components of every block as
    colors, layers across, heads down, input-agnostic blocks framed.
    """
    import kvtool
    from kvtool.cli.output import emit_result, plot_files, say_notes

    plots = plot_files(plot)
    cut = parse_threshold(threshold)
    target_run = kvtool.open(need_store(store)).run(run)
    with console.progress("variance", None, unit="parts") as advance:
        result = kvtool.variance(
            target_run,
            kind=kind,
            threshold=cut,
            pca=[image.strip() for image in pca.split(",")] if pca else (),
            out=out,
            seed=seed,
            fresh=fresh,
            wait_s=wait,
            progress=advance,
        )
    say_notes(result, format)
    if pictures := result.config.get("pictures"):
        console.log.info("%d pictures in %s", len(pictures), out)
    emit_result(result, format, plots)


def parse_threshold(text: str) -> Threshold:
    """'auto' or a number. Raises UsageError."""
    if text == "auto":
        return "auto"
    try:
        threshold = float(text)
    except ValueError:
        threshold = math.nan
    if not math.isfinite(threshold):
        raise UsageError(f"--threshold: expected auto or a number, found {text[:80]!r}")
    return threshold
