"""Flags and arguments that several commands share, and the small languages in them."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kvtool.bounds import BOUNDS, MOST_BLOCKS
from kvtool.cli.completion import complete_run
from kvtool.errors import UsageError
from kvtool.types import KINDS, Kind

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
        "--kinds", metavar="KINDS", help="Comma-separated: key, value, projected, vision."
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
    """The option of a number whose bounds are in kvtool.bounds under this name; by default the flag has it too."""
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
    """Devices have one grammar, whatever else torch may know here."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
        raise typer.BadParameter(f"expected auto, cpu, cuda or cuda:N, found {value[:40]!r}")
    return value


def device_names(value: str) -> str:
    """The same, several of them."""
    for name in value.split(","):
        device_name(name)
    return value


DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", callback=device_name, help="auto, cpu, cuda or cuda:N."
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
    str | None, typer.Option("--layers", metavar="LAYERS", help="E.g. 0-7,14; default: all.")
]


def need_store(store: Path | None) -> Path:
    """The store argument, or $KVTOOL_STORE. Raises UsageError where neither is given."""
    if store is not None:
        return store
    if named := os.environ.get("KVTOOL_STORE"):
        return Path(named)
    raise UsageError("STORE: expected a path as argument or in $KVTOOL_STORE, found neither")


def store_and_word(store: str | None, word: str | None, what: str) -> tuple[Path, str]:
    """`STORE WORD`, or `WORD` alone where $KVTOOL_STORE names the store."""
    if word is None and store is not None and os.environ.get("KVTOOL_STORE"):
        return need_store(None), store
    if word is None:
        raise UsageError(f"{what}: expected after STORE, found none")
    return need_store(None if store is None else Path(store)), word


def parse_numbers(text: str | None, flag: str) -> tuple[int, ...] | None:
    """'0-7,14' -> (0, ..., 7, 14), sorted, each once. None stays None. Raises UsageError."""
    if text is None:
        return None
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", item)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(
                f"{flag}: expected numbers and ranges such as 0-7,14; found {text[:80]!r}"
            )
        first, last = match[1], match[2] or match[1]
        if int(last) >= MOST_BLOCKS:  # bounded before anything is allocated
            raise UsageError(f"{flag}: expected numbers below {MOST_BLOCKS}, found {last}")
        found.update(range(int(first), int(last) + 1))
    return tuple(sorted(found))


def parse_kinds(text: str | None) -> tuple[Kind, ...] | None:
    """'key,value' -> ('key', 'value') in the fixed order of KINDS. None stays None. Raises UsageError."""
    if text is None:
        return None
    names = [item.strip() for item in text.split(",")]
    for name in names:
        if name not in KINDS:
            raise UsageError(f"--kinds: expected some of {', '.join(KINDS)}; found {name!r}")
    return tuple(kind for kind in KINDS if kind in names)


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


def given(**options: Any) -> dict[str, Any]:
    """Those options that the user set: None means 'the default of the library'."""
    return {name: value for name, value in options.items() if value is not None}
