"""How large a number and what a text may be that someone asks for: one table for the command line
and for Python.

Numbers are bounded before anything is allocated for them. The bounds are far from what anyone
needs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sized
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from kvtool.errors import UsageError
from kvtool.progress import bar

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

LARGEST_SEED = 2**32 - 1
"""NumPy and scikit-learn take no other seeds."""
LARGEST = 10**9
MOST_BLOCKS = 100_000
"""No model has so many layers or heads."""
FARTHEST_PX = 1e9

BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, LARGEST_SEED),
    "limit": (1, LARGEST),
    "n": (1, LARGEST),
    "k": (1, 1_000_000),
    "layer": (0, MOST_BLOCKS),
    "kv_head": (0, MOST_BLOCKS),
    "episodes": (1, 1_000_000),
    "shots": (1, 10_000),
    "restarts": (1, 10_000),
    "folds": (2, 10_000),
    "draws": (1, 10_000),
    "max_new_tokens": (1, 100_000),
    "localization": (1, MOST_BLOCKS),
    "batch_size": (1, 65_536),
    "steps": (1, 10_000_000),
    "epochs": (1, 10_000),
    "learning_rate": (1e-9, 10),
    "pool": (1, 64),
    "max_tokens": (1, 10**12),
    "context": (2, 1_000_000),
    "outlier": (1, 1e9),
    "max_presence": (0, 1),
    "max_density": (0, 1),
    "examples": (0, 10_000),
    "blocks": (1, MOST_BLOCKS),
    "port": (1, 65_535),
    "cpus_per_worker": (1, 10_000),
    "c": (1e-9, 1e9),
    "wait_s": (0, 1e9),
    "min_pixels": (1, 1 << 26),
    "max_pixels": (1, 1 << 26),
}
"""Smallest and largest value of an option of this name, whatever command takes it."""
FLOATS = ("c", "wait_s", "outlier", "max_presence", "max_density", "learning_rate")
TEXTS = ("title", "prefix", "system")
"""Options that are written out as text, so that bytes of a shell that are no UTF-8 are of no use to
them.
"""
ITEMS = ("layers", "heads")


def check_options(options: Mapping[str, Any]) -> None:
    """Check what a public function was given. Raises UsageError that names the option."""
    for name, value in options.items():
        if value is None:
            continue
        if name in BOUNDS:
            check_number(name, value)
        elif (
            name in ITEMS
            and isinstance(value, Sized)
            and not isinstance(value, str)
            and len(value) > MOST_BLOCKS
        ):
            raise UsageError(f"{name}: expected {MOST_BLOCKS} numbers at most, found {len(value)}")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str | os.PathLike):
                check_text(name, os.fspath(text))


def checked(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
    """Return a public function that checks its options first, and shows a bar for `progress=True`;
    its signature stays what it is."""
    # Read once, since the signature of a function never changes.
    parameters = signature(function)
    words = {
        name: parameter.default
        for name, parameter in parameters.parameters.items()
        if name in BOUNDS and isinstance(parameter.default, str)
    }

    def is_word(name: str, value: object) -> bool:
        """Tell whether a value is the word that stands for a number."""
        return isinstance(value, str) and words.get(name) == value

    @wraps(function)
    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Returned:
        """Check the options, then call the function."""
        arguments = parameters.bind(*args, **options).arguments
        values = {**arguments, **arguments.get("options", {})}
        # A word that stands for a number ("auto") is a function's default.
        check_options({name: values[name] for name in values if not is_word(name, values[name])})
        if options.get("progress") is not True:
            return function(*args, **options)
        with bar(function.__name__) as advance:
            shown_options: Any = {**options, "progress": advance}
            return function(*args, **shown_options)

    return call


def check_number(name: str, value: Any) -> None:
    """Raise UsageError for what is no number, not finite or out of the bounds of its name."""
    low, high = BOUNDS[name]
    kind = "a number" if name in FLOATS else "a whole number"
    try:
        is_valid = (
            not isinstance(value, bool | str) and math.isfinite(value) and low <= value <= high
        )
        is_valid = is_valid and (name in FLOATS or value == int(value))
    except (TypeError, ValueError, OverflowError):
        is_valid = False
    if not is_valid:
        raise UsageError(
            f"{name}: expected {kind} from {low:.10g} to {high:.10g}, found {_short(value)}"
        )


def check_text(name: str, text: str | bytes) -> None:
    """Raise UsageError for characters that no file's name or, of TEXTS, no text can hold."""
    try:
        encoded = text.encode() if name in TEXTS and isinstance(text, str) else os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise UsageError(f"{name}: expected text in UTF-8 without a NUL, found {_short(text)}")


def _short(value: Any) -> str:
    """Return a value in a few characters; a number too long to be written has no other."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}..."
