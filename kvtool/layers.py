"""How layers and heads are named: by their numbers; layers also as a third of the depth or as the
last ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvtool.bounds import MOST_BLOCKS
from kvtool.errors import UsageError

PAPER_LAYERS = 28
THIRDS = {"early": (0, 8), "middle": (8, 18), "late": (18, 28)}
"""The paper's groups of 28 layers (appendix A.6.2); another depth is split at the same fractions.
"""
LayerChoice = str | Sequence[int]
"""early, middle, late, last:N, or the numbers themselves."""


def layer_groups(n_layers: int) -> dict[str, range]:
    """Return the early, middle and late layers of a decoder of some depth."""
    return {
        name: range(*(round(edge * n_layers / PAPER_LAYERS) for edge in edges))
        for name, edges in THIRDS.items()
    }


def named_layers(name: str, n_layers: int) -> range:
    """Return the layers of a name: early, middle, late or last:N. Raises UsageError for another."""
    groups = layer_groups(n_layers)
    if name in groups:
        return groups[name]
    last = re.fullmatch(r"last:(\d{1,9})", name)
    if last is None:
        raise UsageError(f"layers: expected early, middle, late, last:N or numbers, found {name!r}")
    return range(max(0, n_layers - int(last[1])), n_layers)


def resolve_layers(layers: LayerChoice | None, n_layers: int) -> tuple[int, ...] | None:
    """Return the numbers of chosen layers in ascending order; None stays None.

    Raises UsageError for a name that is not known, for none, and for layers beyond the depth.
    """
    if layers is None:
        return None
    numbers = named_layers(layers, n_layers) if isinstance(layers, str) else layers
    if not numbers or not all(0 <= layer < n_layers for layer in numbers):
        listed = ", ".join(map(str, numbers)) or "none"
        raise UsageError(f"layers: expected some of 0 to {n_layers - 1}, found {listed}")
    return tuple(sorted(set(numbers)))


def parse_numbers(text: str | None, flag: str) -> tuple[int, ...] | None:
    """Return the numbers of a text such as 0-7,14, sorted, each once; None stays None.

    Raises UsageError that names the flag.
    """
    if text is None:
        return None
    numbers: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", item)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(
                f"{flag}: expected numbers and ranges such as 0-7,14; found {text[:80]!r}"
            )
        first, last = match[1], match[2] or match[1]
        if int(last) >= MOST_BLOCKS:  # bounded before anything is allocated
            raise UsageError(f"{flag}: expected numbers below {MOST_BLOCKS}, found {last}")
        numbers.update(range(int(first), int(last) + 1))
    return tuple(sorted(numbers))
