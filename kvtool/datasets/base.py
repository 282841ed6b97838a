"""What every data set provides to extract: its images in a fixed order, its texts, and the prefixes it can offer.

Ground truth for a task is each data set's own business: see its file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PREFIX_CONDITIONS = ("none", "correct", "incorrect", "random")


@dataclass(frozen=True)
class ImageRef:
    """One picture: `path` on disk, or `read` for pictures that live inside another file (parquet)."""

    id: str
    path: Path | None = None
    read: Callable[[], bytes] | None = None


class Dataset(Protocol):
    """A data set of one split. `tasks` names what `kvtool probe` can do with a run over it."""

    name: str
    split: str
    root: Path | None
    tasks: tuple[str, ...]

    def images(self) -> Sequence[ImageRef]:
        """All pictures of the split, each once, in a fixed order; ids are unique."""
        ...

    def texts(self) -> Sequence[str]:
        """Class names or expressions whose vectors `extract` stores beside the images; may be empty."""
        ...

    def prefix(self, image_id: str, condition: str) -> str:
        """Text to put before an image under a condition of PREFIX_CONDITIONS. Raises UsageError naming the
        conditions that this data set offers."""
        ...
