"""Where an image of a run lies among its parts."""

from __future__ import annotations

from typing import NamedTuple

from kvtool.store.parts import Part
from kvtool.types import Kind, Sample


class Location(NamedTuple):
    """Where an image lies: the part, its position there and, of a frame of a video, which one."""

    part: Part
    position: int
    frame: int | None = None

    @property
    def sample(self) -> Sample:
        """What is recorded of the image."""
        sample = self.part.samples[self.position]
        return sample if self.frame is None else sample.view(self.frame)

    def rows(self, kind: Kind, array: str) -> tuple[int, int]:
        """Return the first and the last row, exclusive, of the image in the arrays of a kind, of
        which all have the offsets of this one.
        """
        first, last = self.part.offsets(array)[self.position : self.position + 2]
        if self.frame is None:
            return first, last
        grid = self.part.samples[self.position].grid_at(self.frame, kind)
        first += grid.start
        return first, first + grid.grid[0] * grid.grid[1]
