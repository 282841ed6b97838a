"""kvtool search: the nearest patches of a whole run for one patch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kvtool.bounds import FARTHEST_PX
from kvtool.cli import console
from kvtool.cli.options import (
    DeviceOption,
    FormatOption,
    KindOption,
    RunOption,
    StoreArgument,
    bounded,
    need_store,
)
from kvtool.errors import UsageError

if TYPE_CHECKING:
    from kvtool.result import Row

EXAMPLES = (
    "kvtool search study.kv --image bird/2026_000092 --at 40,30",
    "kvtool search study.kv --image bird/2026_000092 --at 40,30 -k 50 \\\n    --exclude-self",
    "kvtool search study.kv --image bird/2026_000092 --at 40,30 --layer 2 \\\n    --kv-head 1",
)


ImageOption = Annotated[
    str, typer.Option("--image", metavar="ID", help="Id of the image that holds the patch.")
]
AtOption = Annotated[
    str,
    typer.Option("--at", metavar="X,Y", help="A pixel of the patch, in the original image."),
]
LayerOption = Annotated[
    int | None,
    bounded(
        "layer",
        help="Layer. The default is that of the widest correspondence probe's best block.",
    ),
]
KvHeadOption = Annotated[
    int | None,
    bounded("kv_head", help="Head of the block. The default is that of the same best block."),
]
KOption = Annotated[int, bounded("k", "-k", "--k", metavar="N", help="Number of patches to find.")]
MetricOption = Annotated[
    Literal["cosine", "l2"],
    typer.Option("--metric", help="How the distance of two patches is measured."),
]
ExcludeSelfOption = Annotated[
    bool, typer.Option("--exclude-self", help="Leave out the image of the patch.")
]
ExactOption = Annotated[
    bool, typer.Option("--exact", help="Read every patch instead of using the index.")
]
FreshIndexOption = Annotated[bool, typer.Option("--fresh", help="Build the index again.")]


def search(
    image: ImageOption,
    pixel: AtOption,
    store: StoreArgument = None,
    run: RunOption = None,
    kind: KindOption = None,
    layer: LayerOption = None,
    kv_head: KvHeadOption = None,
    k: KOption = 10,
    metric: MetricOption = "cosine",
    exclude_self: ExcludeSelfOption = False,
    exact: ExactOption = False,
    fresh: FreshIndexOption = False,
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Find the patches of all images of a run that are nearest to one patch. Never loads the model.

    The first search of a block builds an index, which the store keeps with the run: exact up to 128
    MiB of vectors, inverted lists (FAISS) above. How much of the exact answer it finds
    (recall_at_10) is measured then, and said with each search. Without --layer or --kv-head the
    best block of the widest correspondence probe in the store is taken, else of the widest probe,
    else the middle layer and head 0.
    """
    import kvtool
    from kvtool.cli.output import emit_result, emit_rows, resolve

    at_px = parse_at(pixel)
    target_run = kvtool.open(need_store(store)).run(run)
    with console.progress("search: building the index", None, unit="patches") as advance:
        result = kvtool.search(
            target_run,
            image,
            at_px,
            kind=kind,
            layer=layer,
            kv_head=kv_head,
            k=k,
            metric=metric,
            exclude_self=exclude_self,
            exact=exact,
            fresh=fresh,
            device=device,
            progress=advance,
        )
    for note in result.config["notes"]:
        console.log.info("%s", note)
    if resolve(format) == "table":
        itself = "" if exclude_self else "; rank 1 is the patch itself"
        rows = [_shown(row, metric) for row in result.rows]
        emit_rows(rows, "table", title=f"nearest of {result.n}{itself}")
    else:
        emit_result(result, format)


def _shown(row: Row, metric: str) -> Row:
    """Return a row as a table has it: a cosine is called one, and its score rounded."""
    measure = "cosine" if metric == "cosine" else "score"
    fields = {name: value for name, value in row.items() if name != "score"}
    pixel = {name: round(row[name], 1) for name in ("x_px", "y_px")}
    return fields | pixel | {measure: f"{row['score']:.4f}"}


def parse_at(text: str) -> tuple[float, float]:
    """'12.5,30' -> (12.5, 30.0). Raises UsageError."""
    try:
        x_px, y_px = map(float, text.split(","))
    except ValueError:
        x_px = y_px = math.nan
    if not (abs(x_px) <= FARTHEST_PX and abs(y_px) <= FARTHEST_PX):  # neither does NaN pass
        raise UsageError(f"--at: expected X,Y in pixels such as 120,64.5; found {text[:80]!r}")
    return x_px, y_px
