"""What can be done to text at the image's tokens of some heads, as the user names it: a method and
its strength, such as scale:0.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from kvtool.errors import UsageError

Head = tuple[int, int]
"""(layer, kv_head)."""


@dataclass(frozen=True)
class Strengths:
    """The numbers that a method takes.

    Attributes:
        low, high: The smallest and the largest.
        none: The one that leaves everything as it is.
        is_open: Whether the smallest itself is refused.
    """

    low: float
    high: float
    none: float
    is_open: bool = False

    def __contains__(self, strength: float) -> bool:
        is_low = strength <= self.low if self.is_open else strength < self.low
        return math.isfinite(strength) and not is_low and strength <= self.high

    def __str__(self) -> str:
        start = f"above {self.low:g}" if self.is_open else f"from {self.low:g}"
        return f"{start} to {self.high:g}"


LARGEST = 1e6
METHODS: dict[str, Strengths | None] = {
    "block": None,
    "scale": Strengths(0, LARGEST, 1),
    "redistribute": Strengths(0, 1, 0),
    "mean-key": None,
    "mean-value": None,
    "contrast": Strengths(0, LARGEST, 0),
    "temperature": Strengths(0, LARGEST, 1, is_open=True),
}
"""Method -> the strengths that it takes; None where it has none."""
BLOCK = "block"
MEAN_METHODS = ("mean-key", "mean-value")
"""Methods that put the mean of a run's pictures in place of what a picture has."""


@dataclass(frozen=True)
class Method:
    """A method with its strength, where it takes one."""

    name: str
    strength: float | None = None

    @property
    def label(self) -> str:
        """The name on the command line: scale:0.5."""
        return self.name if self.strength is None else f"{self.name}:{self.strength:g}"

    @property
    def changes_nothing(self) -> bool:
        """Whether the model is left as it is, bit for bit."""
        strengths = METHODS[self.name]
        return strengths is not None and self.strength == strengths.none

    @property
    def blocks(self) -> bool:
        """Whether text does not see the image's tokens at all."""
        return self.name == BLOCK or (self.name, self.strength) == ("scale", 0)


@dataclass(frozen=True)
class Intervention:
    """What is done, and in which heads."""

    method: Method
    heads: frozenset[Head]

    @property
    def needs_means(self) -> bool:
        """Whether the mean keys and values of a run's pictures are needed."""
        return self.method.name in MEAN_METHODS


def parse_methods(texts: str | Iterable[str]) -> tuple[Method, ...]:
    """Return the methods of texts such as "block" and "scale:0,0.5,2", in their order, each once.

    Raises UsageError for an unknown method, and for a strength that is lacking, needless, no number
    or out of range.
    """
    listed = [texts] if isinstance(texts, str) else list(texts)
    methods = [method for text in listed for method in _parse(text.strip())]
    if not methods:
        raise UsageError(f"--method: expected one of {_grammar()}, found none")
    return tuple(dict.fromkeys(methods))


def _parse(text: str) -> list[Method]:
    name, colon, numbers = text.partition(":")
    if name not in METHODS:
        nearest = get_close_matches(name, METHODS, n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"--method: expected one of {_grammar()}, found {text!r}{hint}")
    strengths = METHODS[name]
    if strengths is None:
        if colon:
            raise UsageError(f"--method {name}: expected no strength, found {numbers!r}")
        return [Method(name)]
    # Several strengths of one method are several methods.
    return [Method(name, _strength(name, strengths, number)) for number in numbers.split(",")]


def _strength(name: str, strengths: Strengths, text: str) -> float:
    try:
        strength = float(text)
    except ValueError:
        strength = math.nan
    if strength not in strengths:
        raise UsageError(
            f"--method {name}: expected a strength {strengths}, as {name}:0.5, found {text!r}"
        )
    return strength


def _grammar() -> str:
    """Return the methods as the command line takes them."""
    return ", ".join(
        name if strengths is None else f"{name}:NUMBER" for name, strengths in METHODS.items()
    )
