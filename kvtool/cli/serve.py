"""kvtool serve: the live viewer in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtool.cli import console
from kvtool.cli.options import (
    DataFoldersOption,
    DeviceOption,
    StoresArgument,
    bounded,
    need_store,
)
from kvtool.cli.parsing import parse_folders, parse_model

EXAMPLES = (
    "kvtool serve study.kv",
    "kvtool serve study.kv --model demo --open",
    "kvtool serve study.kv --port 8800 --state 'view=heads&kind=key'",
)

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The runs' model, by its name or folder, to answer questions. Without it no model is "
        "ever loaded.",
    ),
]
PortOption = Annotated[
    int | None,
    bounded(
        "port",
        help="Port to listen on. The default is 8765, or a free one where that is taken.",
    ),
]
StateOption = Annotated[
    str,
    typer.Option(
        "--state",
        metavar="STATE",
        help="What is shown first: the part of an address of the viewer behind its #.",
    ),
]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the viewer in a browser.")]


def serve(
    stores: StoresArgument = None,
    model: ModelOption = None,
    port: PortOption = None,
    state: StateOption = "",
    open_browser: OpenOption = False,
    data: DataFoldersOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Show one store or several in a browser, until Ctrl-C, and print the address to open.

    Point at a patch of a picture: its similarity to every other patch, in any layer and head, in
    all heads at once, in a second picture with its keypoints, in all pictures, and along a video;
    features of SAEs; and with --model questions, where they look, and what blocked heads change.
    It listens on this machine alone, behind a secret token in the address, and writes nothing. On
    another machine: ssh -L 8765:localhost:8765 HOST. Needs kvtool[serve].
    """
    import kvtool

    served = kvtool.serve(
        stores or [need_store(None)],
        model=parse_model(model),
        data=parse_folders(data, "--data"),
        device=device,
        port=port,
        state=state,
        open_browser=open_browser,
    )
    print(served.address, flush=True)
    console.log.info("runs: %d; Ctrl-C ends the viewer", len(served.runs))
    served.wait()
