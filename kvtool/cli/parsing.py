"""The small languages of flags: devices, layers, heads, kinds, folders, sizes, tokens."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any, Literal

import typer

from kvtool.bounds import check_number
from kvtool.errors import UsageError
from kvtool.layers import parse_numbers
from kvtool.types import SALIENCY, VECTOR_KINDS, Kind

MOST_DIGITS = 9
"""No image has more tokens than numbers of so many digits can say."""


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
    """Return the same, several of them."""
    for name in value.split(","):
        device_name(name)
    return value


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


def parse_batch_size(text: str) -> int | Literal["auto"]:
    """'auto', or a number within its bounds. Raises UsageError."""
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"--batch-size: expected auto or a whole number, found {text[:80]!r}")
    check_number("batch_size", int(text))
    return int(text)


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


def parse_tokens(text: str) -> int | Literal["all"]:
    """Return the tokens of a flag: all, or a number of 1 or more. Raises UsageError."""
    if text == "all":
        return "all"
    if not text.isdecimal() or len(text) > MOST_DIGITS or int(text) < 1:
        raise UsageError(f"--tokens: expected all or a number of 1 or more, found {text[:80]!r}")
    return int(text)


def given(**options: Any) -> dict[str, Any]:
    """Return those options that the user set: None means 'the default of the library'."""
    return {name: value for name, value in options.items() if value is not None}
