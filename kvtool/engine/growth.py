"""How many batches run together: more of them as long as that is faster, fits, and changes no bit.

See docs/decisions/engine-batches.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kvtool.engine.events import Event, Tell
from kvtool.models.captured import Captured

if TYPE_CHECKING:
    from kvtool.models.base import Prepared
    from kvtool.types import Sample

Batch = Sequence["Prepared"]
Run = Callable[[Batch], Captured]
FASTER = 1.05
"""How many times the rate must be for more batches to run together."""
TRIAL_SHARE = 100
"""A trial runs its images three times more, so that it is made only while this many times as many
are still to be done.
"""


class Growth:
    """Which number of batches runs together, tried as they come.

    The arrays that leave are always those of batches run one by one, or have their bits: every
    number of batches is compared with these once for each shape before it is used. So time decides
    how fast an extraction is, and never what it stores.

    Attributes:
        together: How many batches run together now, a power of two.
    """

    def __init__(
        self,
        single: Run,
        joined: Run,
        fits: Callable[[Sample, int], bool],
        n_images: int,
        tell: Tell,
    ) -> None:
        """Begin with one batch at a time.

        Args:
            single: Captures a batch, in pieces where the device has no room for it.
            joined: Captures a batch, and raises torch.OutOfMemoryError.
            fits: Whether the device has room for so many images like one that has just run.
            n_images: How many images are to be done.
            tell: Hears when the number changes, and why it changes no more.
        """
        self.together = 1
        self._single, self._joined, self._fits, self._tell = single, joined, fits, tell
        self._n_left = n_images
        self._ended = False
        self._same_bits: dict[tuple[Hashable, int, int], bool] = {}

    def wanted(self, size: int) -> int:
        """Return how many batches of a size to wait for."""
        return 2 * self.together if self._is_due(size) else self.together

    def _is_due(self, size: int) -> bool:
        """Whether twice as many batches are to be tried as soon as they are there."""
        return not self._ended and TRIAL_SHARE * 2 * self.together * size <= self._n_left

    def run(self, batches: Sequence[Batch]) -> list[Captured]:
        """Return what is captured of each of several batches of one signature."""
        captures: list[Captured] = []
        while len(captures) < len(batches):
            remaining = batches[len(captures) :]
            n_together = self.together
            # With fewer batches than a trial takes, the two rates could not be compared.
            if self._is_due(len(remaining[0])) and len(remaining) >= 2 * n_together:
                captures += self._trial(remaining[: 2 * n_together])
                continue
            # A power of two, as all that were tried.
            while n_together > len(remaining):
                n_together //= 2
            captures += self._level(remaining[:n_together])
        self._n_left -= sum(map(len, batches))
        return captures

    def _level(self, batches: Sequence[Batch]) -> list[Captured]:
        """Capture batches together where that is known to change no bit, else one by one."""
        from torch import OutOfMemoryError

        # A shape known to differ in bits never runs together again.
        if len(batches) == 1 or self._same_bits.get(_shape(batches)) is False:
            return [self._single(batch) for batch in batches]
        try:
            together = self._together(batches)
        except OutOfMemoryError:
            self._end("the device has no room for more")
            return [self._single(batch) for batch in batches]
        # Only a shape that was compared before may leave as it ran together.
        if _shape(batches) in self._same_bits:
            return together
        # The first time of a shape both ways run, and the bits of single batches are what leaves.
        singles = [self._single(batch) for batch in batches]
        self._same_bits[_shape(batches)] = _equal_bits(singles, together)
        return singles

    def _together(self, batches: Sequence[Batch]) -> list[Captured]:
        """Capture batches as one, and cut what comes of it."""
        # One pass over all images; its rows are cut back into batches, which share its copies.
        captured = self._joined(list(chain.from_iterable(batches)))
        pieces: list[Captured] = []
        start = 0
        for batch in batches:
            rows = slice(start, start + len(batch))
            pieces.append(
                Captured(
                    {kind: items[rows] for kind, items in captured.arrays.items()},
                    {name: items[rows] for name, items in captured.text.items()},
                    captured.copies,
                )
            )
            start += len(batch)
        return pieces

    def _trial(self, batches: Sequence[Batch]) -> list[Captured]:
        """Try twice as many batches as run together now; return what is captured as it was done
        up to now.
        """
        from torch import OutOfMemoryError

        # The way up to now comes first: its captures leave, whatever the trial shows.
        halves = batches[: self.together], batches[self.together :]
        captures = [captured for half in halves for captured in self._level(half)]
        n_images = sum(map(len, batches))
        if not self._fits(batches[0][0].sample, n_images):
            self._end("twice as many would take more memory than is free")
            return captures
        try:
            # Speed counts only where the bits agree, and the result is kept for this shape.
            is_same = _equal_bits(captures, self._together(batches))
            self._same_bits[_shape(batches)] = is_same
            # Both ways once more: the first time, kernels may be chosen and memory be taken.
            before_s = _seconds(lambda: chain.from_iterable(map(self._level, halves)))
            after_s = _seconds(lambda: self._together(batches))
        except OutOfMemoryError:
            self._end("the device has no room for twice as many")
            return captures
        if not is_same:
            self._end("twice as many at once give other bits")
        elif before_s < FASTER * after_s:
            self._end(f"twice as many at once have {before_s / after_s:.2f} times the rate")
        else:
            self.together = len(batches)
            self._say(f"{before_s / after_s:.2f} times the rate of half as many")
        return captures

    def _end(self, reason: str) -> None:
        self._ended = True
        self._say(reason)

    def _say(self, reason: str) -> None:
        self._tell(Event("growth", self.together, message=reason))


def _shape(batches: Sequence[Batch]) -> tuple[Hashable, int, int]:
    """Return what the kernels of several batches run together depend on."""
    return batches[0][0].signature, len(batches[0]), len(batches)


def _equal_bits(first: Sequence[Captured], second: Sequence[Captured]) -> bool:
    """Whether two series of captures hold the same bits; a NaN is equal to itself."""
    return all(
        np.array_equal(_bits(left), _bits(right))
        for before, after in zip(_on_host(first), _on_host(second), strict=True)
        for kinds in ("arrays", "text")
        for name, items in getattr(before, kinds).items()
        for left, right in zip(items, getattr(after, kinds)[name], strict=True)
    )


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}")


def _on_host(captures: Sequence[Captured]) -> list[Captured]:
    return [captured.wait() for captured in captures]


def _seconds(call: Callable[[], Iterable[Captured]]) -> float:
    """Return how long a call takes until what it captures lies on the host."""
    started = time.perf_counter()
    for captured in call():
        captured.wait()
    return max(time.perf_counter() - started, 1e-9)
