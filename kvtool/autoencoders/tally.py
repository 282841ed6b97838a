"""How far the collection of a model's states over text is, as noted beside the states' files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kvtool import schema
from kvtool.errors import CorruptError

Part = Literal["train", "held-out"]
PARTS: tuple[Part, ...] = ("train", "held-out")


@dataclass(frozen=True)
class StreamSettings:
    """What the vectors depend on besides model and text.

    Attributes:
        identity: A digest of all that they depend on.
        layers: The decoder's layers, 0-based.
        most_tokens: Tokens for training at most.
        context: Tokens of a text that are run together at most.
        outlier: Tokens whose vector is so many times as long as the layer's median are left out.
    """

    identity: str
    layers: tuple[int, ...]
    most_tokens: int
    context: int
    outlier: float


@dataclass(frozen=True)
class CollectionTally:
    """How far a collection is.

    Attributes:
        identity: See StreamSettings.
        layers: The layers that have files: those of the settings, and maybe more.
        contexts: Contexts that were read.
        tokens: Vectors of each part in the files.
        n_outliers: Tokens that were left out.
        medians: The median length of each layer's vectors, of the first block.
        is_complete: Whether no text is left, or no room in the files.
    """

    identity: str
    layers: list[int]
    contexts: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    n_outliers: int = 0
    medians: list[float] = field(default_factory=list)
    is_complete: bool = False

    def summary(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.contexts} contexts: {self.tokens['train']} tokens for training, "
            f"{self.tokens['held-out']} held out, {self.n_outliers} outliers left out"
        )


def fresh_tally(settings: StreamSettings) -> CollectionTally:
    """Return the tally of empty files."""
    return CollectionTally(settings.identity, list(settings.layers))


def read_tally(path: Path, settings: StreamSettings) -> CollectionTally:
    """Return what a folder's files hold; nothing where they are of another training."""
    fresh = fresh_tally(settings)
    try:
        record: Any = json.loads(path.read_bytes())
        tally = schema.read(CollectionTally, record, str(path))
    except (OSError, ValueError, CorruptError):
        return fresh
    # A training that went on has fewer layers to do than when its states were collected.
    is_ours = tally.identity == fresh.identity and set(fresh.layers) <= set(tally.layers)
    return tally if is_ours and set(tally.tokens) == set(PARTS) else fresh
