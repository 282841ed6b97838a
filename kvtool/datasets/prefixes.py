"""The texts that may stand before an image, and a wrong name in place of the correct one."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kvtool.errors import UsageError

PREFIX_CONDITIONS = ("none", "correct", "incorrect", "random")

RANDOM_PREFIX = (
    "A rustic wooden table filled with freshly baked croissants, dripping honey, "
    "and a steaming pot of Earl Grey tea beside a bowl of ripe figs."
)
"""The paper's control sentence (section 4.1, "Controls")."""


def another(names: Sequence[str], correct: str, key: str) -> str:
    """Return a name other than the correct one, the same each time for one key."""
    # Sorted and seeded by the image: the choice depends on nothing else.
    wrong_names = sorted(set(names) - {correct})
    if not wrong_names:
        raise UsageError(
            f"no name other than {correct!r} to serve as the incorrect one; use a split of several "
            "classes"
        )
    return random.Random(f"incorrect:{key}").choice(wrong_names)
