"""Pictures of a window on their way: they wait for others of their shape, form batches, and what is
captured of them comes together again in their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvtool.models.base import Prepared
    from kvtool.models.captured import Captured
    from kvtool.types import Sample

Slots = dict[str, list[Any]]


@dataclass(eq=False)
class PartWork:
    """A claimed part on its way. `arrays` and `text` have a slot an image, by kind, which are
    filled as the batches of its images run, up to copies that are under way (Captured.wait).
    """

    name: str
    samples: list[Sample]
    claim: ExitStack
    arrays: Slots = field(default_factory=dict)
    text: Slots = field(default_factory=dict)
    copies: set[Any] = field(default_factory=set)
    n_captured: int = 0

    @property
    def is_captured(self) -> bool:
        """Whether every image of the part ran."""
        return self.n_captured == len(self.samples)

    def put(self, position: int, captured: Captured, row: int) -> None:
        """Take one image's arrays from those of its batch."""
        for slots, captures in ((self.arrays, captured.arrays), (self.text, captured.text)):
            for kind, items in captures.items():
                slots.setdefault(kind, [None] * len(self.samples))[position] = items[row]
        self.copies |= set(captured.copies)
        self.n_captured += 1

    def wait(self) -> None:
        """Wait until all arrays are filled."""
        for copy in self.copies:
            copy.synchronize()


@dataclass(frozen=True)
class Waiting:
    """An image that waits for its batch, and where in a part it goes: nowhere if the run holds it,
    and it only stands in a batch as it did when it was stored.
    """

    item: Prepared
    work: PartWork | None
    position: int = 0


class Pool:
    """Images that wait for a batch, by the signature of their shapes, in the order of a window.

    Which images form a batch depends on the window alone: neither on what the run holds of it nor
    on how many batches run together.
    """

    def __init__(self, size_of: Callable[[Prepared], int]) -> None:
        """size_of: how many images of an image's shape form a batch."""
        self._size_of = size_of
        self._waiting: dict[Hashable, list[Waiting]] = {}

    def add(self, images: list[Waiting]) -> None:
        """Let images wait, which follow those that came before."""
        for image in images:
            self._waiting.setdefault(image.item.signature, []).append(image)

    def take(
        self, count_of: Callable[[Prepared], int], ends: bool
    ) -> Iterator[list[list[Waiting]]]:
        """Yield batches of equal signatures that may run together: full ones, or one that is not.

        count_of: how many of an image's shape to wait for. ends: whether the window does, so that
        nothing more is waited for.
        """
        for signature in list(self._waiting):
            images = self._waiting[signature]
            size = self._size_of(images[0].item)
            while images and (ends or len(images) >= size * count_of(images[0].item)):
                # A window that ends leaves a batch that is not full: it runs as it is, and alone.
                n_batches = max(1, min(count_of(images[0].item), len(images) // size))
                # Cut with those the run holds: so batches of a run that goes on are the same.
                cut = [images[n * size : (n + 1) * size] for n in range(n_batches)]
                del images[: n_batches * size]
                # What the run holds already needs no run again but for the sake of its batch.
                if batches := [batch for batch in cut if any(image.work for image in batch)]:
                    yield batches
            if not images:
                del self._waiting[signature]
