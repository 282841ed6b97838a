"""Flags and arguments that several commands share, and the small languages in them."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.bounds import BOUNDS, check_number
from kvtool.cli.completion import complete_run
from kvtool.errors import UsageError
from kvtool.layers import parse_numbers
from kvtool.models.device_names import AUTO, check_device, worker_devices
from kvtool.types import SALIENCY, VECTOR_KINDS, Kind

Format = Literal["auto", "table", "json", "jsonl", "csv"]

StoreArgument = Annotated[
    Path | None, typer.Argument(metavar="[STORE]", help="The store; default: $KVTOOL_STORE.")
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format", help="Of the data on standard output. auto: a table on a terminal, else jsonl."
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        autocompletion=complete_run,
        help="Name of the run; needed where a store holds several.",
    ),
]
KindsOption = Annotated[
    str | None,
    typer.Option(
        "--kinds", metavar="KINDS", help="Comma-separated: key, value, projected, vision, hidden."
    ),
]
StoredKindsOption = Annotated[
    str | None,
    typer.Option(
        "--kinds",
        metavar="KINDS",
        help="Comma-separated: key, value, projected, vision, which are the default; hidden, the "
        "residual stream after each layer; saliency beside them, where the tower has a class "
        "token or a pooling head.",
    ),
]
PlotOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw the result: .png, .svg or .pdf, for print; repeatable.",
    ),
]


def bounded(name: str, *flags: str, **about: Any) -> Any:
    """Return the option of a number whose bounds are in kvtool.bounds under this name; by default
    the flag has it too.
    """
    low, high = BOUNDS[name]
    return typer.Option(
        *(flags or (f"--{name.replace('_', '-')}",)), min=low, max=high, callback=finite, **about
    )


def finite(value: float | None) -> float | None:
    """Typer's ranges let NaN pass, which is neither below nor above anything."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a number, found {value}")
    return value


def device_name(value: str) -> str:
    """Devices have one grammar, that of kvtool.models.device_names."""
    try:
        return value if value == AUTO else check_device(value)
    except UsageError as error:
        raise typer.BadParameter(str(error).removeprefix("device: ")) from None


def device_names(value: str) -> str:
    """Return the same, several workers' of them."""
    try:
        worker_devices(value)
    except UsageError as error:
        raise typer.BadParameter(str(error).removeprefix("device: ")) from None
    return value


DEVICE_FLAGS = ("--device", "--devices")
"""Both spellings, in every command; how many devices a command takes is its own matter."""
DeviceOption = Annotated[
    str,
    typer.Option(
        *DEVICE_FLAGS,
        metavar="DEVICE",
        callback=device_name,
        help="Where to compute: auto, cpu, cuda or cuda:N; or devices that hold one model, joined "
        "by a plus: cuda:0+cuda:1, cuda:0+cpu, cpu+disk:DIR.",
    ),
]
DevicesOption = Annotated[
    str,
    typer.Option(
        *DEVICE_FLAGS[::-1],
        metavar="DEVICE[,DEVICE...]",
        callback=device_names,
        help="Where to compute: auto, cpu, cuda or cuda:N. A comma separates workers, a process "
        "each; a plus joins devices that hold one model: cuda:0+cuda:1, cuda:0+cpu, cpu+disk:DIR.",
    ),
]
WaitOption = Annotated[
    float,
    bounded(
        "wait_s",
        "--wait",
        help="Seconds to wait for what other processes are at, when all else is done.",
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="Layers: numbers such as 0-7,14, or early, middle, late or last:N; default: all.",
    ),
]
HeadsOption = Annotated[
    str | None,
    typer.Option("--heads", metavar="HEADS", help="KV heads: numbers such as 0-3,5; default: all."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="[NAME=]PATH",
        help="Where the data set is now, if not where it was extracted from.",
    ),
]
DataFoldersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=PATH",
        help="Where the data set NAME is now, if not where it was extracted from; repeatable.",
    ),
]


def need_store(store: Path | None) -> Path:
    """Return the store argument, or $KVTOOL_STORE. Raises UsageError where neither is given."""
    if store is not None:
        return store
    if path := os.environ.get("KVTOOL_STORE"):
        return Path(path)
    raise UsageError("STORE: expected a path as argument or in $KVTOOL_STORE, found neither")


def store_and_word(store: str | None, word: str | None, what: str) -> tuple[Path, str]:
    """`STORE WORD`, or `WORD` alone where $KVTOOL_STORE names the store."""
    if word is None and store is not None and os.environ.get("KVTOOL_STORE"):
        return need_store(None), store
    if word is None:
        raise UsageError(f"{what}: expected after STORE, found none")
    return need_store(None if store is None else Path(store)), word


def parse_layers(text: str | None) -> str | tuple[int, ...] | None:
    """Return the layers of a flag: numbers as numbers, names as they are, for the library knows
    them.
    """
    if text is not None and text[:1].isalpha():
        return text
    return parse_numbers(text, "--layers")


def parse_heads(text: str | None) -> tuple[int, ...] | None:
    """Return the KV heads of a flag such as 0-3,5; None stays None. Raises UsageError."""
    return parse_numbers(text, "--heads")


def parse_list(text: str | None) -> list[str] | None:
    """'a, b' -> ['a', 'b'], names of a flag. None stays None."""
    return None if text is None else [name.strip() for name in text.split(",")]


def parse_folder(text: str | None) -> Path | None:
    """Return the folder of --data: a path, or NAME=PATH or NAME:PATH with the name of a data set;
    None stays None.
    """
    from kvtool.datasets import DATASETS

    if text is None:
        return None
    name, path = _named(text)
    is_named = name in DATASETS.names() and not os.path.lexists(text)
    return Path(path if is_named and path else text)


def parse_model(text: str | None) -> str | None:
    """Return the model of --model: a hub id or a folder, or NAME=FOLDER; None stays None."""
    if text is None or os.path.lexists(text):
        return text
    name, _, folder = text.partition("=")
    return folder if name and folder else text


def parse_folders(texts: list[str] | None, flag: str) -> dict[str, str]:
    """Return the folder of each name in NAME=FOLDER, or NAME:FOLDER for --data.

    Raises UsageError for other texts.
    """
    folders = {}
    for text in texts or ():
        name, folder = _named(text) if flag == "--data" else text.partition("=")[::2]
        if not (name and folder):
            raise UsageError(f"{flag}: expected NAME=FOLDER, found {text!r}")
        folders[name] = folder
    return folders


def _named(text: str) -> tuple[str, str]:
    """Split a text at its first equals sign or colon, whichever is first."""
    match = re.fullmatch(r"([^=:]*)[=:](.*)", text, re.DOTALL)
    return (match[1], match[2]) if match else (text, "")


def parse_kinds(text: str | None) -> tuple[Kind, ...] | None:
    """'key,value' -> ('key', 'value') in the fixed order of VECTOR_KINDS, saliency
    behind them.

    None stays None. Raises UsageError.
    """
    kinds = (*VECTOR_KINDS, SALIENCY)
    if text is None:
        return None
    names = [item.strip() for item in text.split(",")]
    for name in names:
        if name not in kinds:
            raise UsageError(f"--kinds: expected some of {', '.join(kinds)}; found {name!r}")
    return tuple(kind for kind in kinds if kind in names)


def parse_bytes(text: str | None, flag: str) -> int | None:
    """'8GB', '500MB', '2e9' -> bytes (powers of 1000). Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]{1,20}(?:e[0-9]{1,2})?)\s*(B|kB|KB|MB|GB|TB|)\s*", text)
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if match is None or number is None:
        raise UsageError(f"{flag}: expected a size such as 8GB; found {text[:80]!r}")
    return int(
        number * 1000 ** {"": 0, "B": 0, "K": 1, "M": 2, "G": 3, "T": 4}[match[2][:1].upper()]
    )


def parse_batch_size(text: str) -> int | Literal["auto"]:
    """'auto', or a number within its bounds. Raises UsageError."""
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"--batch-size: expected auto or a whole number, found {text[:80]!r}")
    check_number("batch_size", int(text))
    return int(text)


def given(**options: Any) -> dict[str, Any]:
    """Return those options that the user set: None means 'the default of the library'."""
    return {name: value for name, value in options.items() if value is not None}


StyleOption = Annotated[
    Literal["plain", "lmms-eval", "vlmevalkit"],
    typer.Option("--style", help="Word questions as the benchmark or a common evaluator does."),
]
AfterQuestionOption = Annotated[
    str,
    typer.Option(
        "--after-question", metavar="TEXT", help="Put a text after every question, on its own line."
    ),
]
QuestionDtypeOption = Annotated[
    Literal["bfloat16", "float16", "float32"] | None,
    typer.Option(
        "--question-dtype",
        help="Precision in which questions are answered. The default is that of the run.",
    ),
]
