"""kvtool show: pictures of what a run holds of some images, and of what a block predicts of
them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvtool.cli import console
from kvtool.cli.completion import complete_probe_task
from kvtool.cli.options import (
    DataOption,
    DeviceOption,
    FormatOption,
    HeadsOption,
    KindOption,
    LayersOption,
    RunOption,
    StoreArgument,
    bounded,
    need_store,
)
from kvtool.cli.parsing import parse_folder, parse_heads, parse_layers
from kvtool.errors import UsageError
from kvtool.types import VECTOR_KINDS

if TYPE_CHECKING:
    from kvtool.types import Block


EXAMPLES = (
    "kvtool show study.kv --image bird/2026_000092 -o components.png",
    "kvtool show study.kv --image bird/2026_000092 --layers 0-1 --kind key \\\n    -o keys.png",
    "kvtool show study.kv --image bird/2026_000092 --image bird/2026_000091 \\\n"
    "    --task semantic-correspondence -o pairs.png",
)


ImageOption = Annotated[
    list[str],
    typer.Option(
        "--image",
        metavar="ID",
        help="Id of an image, or a DAVIS sequence. The option may be repeated.",
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        "-o",
        "--out",
        metavar="FILE.png",
        help="File of the picture. An existing file is overwritten.",
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        "--task",
        autocompletion=complete_probe_task,
        help="Draw what a block predicts in this task. Without it, the maps are drawn.",
    ),
]
BlockOption = Annotated[
    str | None,
    typer.Option(
        "--block",
        metavar="KIND:LAYER:HEAD",
        help="Block that predicts in --task, e.g. value:14:2. The default is the best.",
    ),
]
LimitOption = Annotated[
    int,
    bounded(
        "limit",
        help="With --task: largest number of sentences, episodes, pairs or frames to draw.",
    ),
]


def show(
    image: ImageOption,
    out: OutOption,
    store: StoreArgument = None,
    run: RunOption = None,
    task: TaskOption = None,
    block: BlockOption = None,
    kind: KindOption = None,
    layers: LayersOption = None,
    heads: HeadsOption = None,
    limit: LimitOption = 12,
    data: DataOption = None,
    device: DeviceOption = "auto",
    format: FormatOption = "auto",
) -> None:
    """Write one PNG about some images of a run. Never loads the model.

    Without --task: the first three principal components of every block as colors, layers across
    and heads down, beside each image; input-agnostic blocks are framed where `kvtool variance`
    found them. Colors are comparable within a file.

    With --task: what a block predicts, as the probe scores it. Segmentation: the mask over the
    image, beside the truth's outline. semantic-correspondence: the keypoints found; of two images
    or more, the pairs among them. temporal-correspondence: the propagated masks of a frame, or of a
    sequence's frames. The best block is that of the widest probe that the store keeps; where it
    keeps none, the task is probed first.
    """
    import kvtool
    from kvtool.cli.output import emit_rows

    selection: dict[str, Any] = {
        "block": parse_block(block),
        "layers": parse_layers(layers),
        "heads": parse_heads(heads),
    }
    target_run = kvtool.open(need_store(store)).run(run)
    what = "show" if task is None else f"show: probing {task}"
    with console.progress(what, None, unit="blocks") as advance:
        picture = kvtool.show(
            target_run,
            image,
            out,
            task=task,
            kind=kind,
            limit=limit,
            data=parse_folder(data),
            device=device,
            progress=advance,
            **selection,
        )
    for note in picture.notes:
        console.log.warning("%s", note)
    emit_rows([picture.row()], format)


def parse_block(text: str | None) -> Block | None:
    """'value:14:2' -> Block("value", 14, 2). None stays None. Raises UsageError."""
    from kvtool.types import Block

    if text is None:
        return None
    match = re.fullmatch(rf"\s*({'|'.join(VECTOR_KINDS)}):(\d{{1,9}}):(\d{{1,9}})\s*", text)
    if match is None:
        raise UsageError(
            f"--block: expected KIND:LAYER:HEAD such as value:14:2, found {text[:80]!r}"
        )
    return Block(match[1], int(match[2]), int(match[3]))  # type: ignore[arg-type]
