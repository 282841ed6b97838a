"""The objects that inquiries are about, on the grids of their pictures, and those of strangers:
objects of other pictures, which say what a map gets that knows where objects tend to lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvtool.asking.inquiries import Array, Inquiry
from kvtool.errors import DatasetError
from kvtool.features.layers import cell_pixels
from kvtool.store import Run
from kvtool.tasks.truth import check_shape
from kvtool.types import GridSpan

STRANGERS = 3
"""Objects of other pictures that each map is scored against."""


@dataclass(frozen=True)
class CellTruth:
    """The pixels of an object and of what is around it, by the cells of a grid.

    Attributes:
        positives: Pixels of the object, (cell,).
        negatives: Pixels around it, (cell,); void ones are neither.
    """

    positives: Array
    negatives: Array

    @classmethod
    def of(cls, mask: Array, span: GridSpan) -> CellTruth:
        """Count the pixels of a mask, (height, width) with 1, 0 and 255 for void."""
        return cls(cell_pixels(mask == 1, span), cell_pixels(mask == 0, span))

    @property
    def is_inside(self) -> Array:
        """Which cells lie in the object, by half of their pixels or more, (cell,) bool."""
        return (self.positives > 0) & (self.positives >= self.negatives)


Truths = Mapping[str, CellTruth]
"""The objects of inquiries that have one, by the inquiry's id."""


def read_truths(run: Run, inquiries: Sequence[Inquiry]) -> tuple[dict[str, CellTruth], list[str]]:
    """Read the object of each inquiry that has one; a line for each that cannot be used, which is
    left out.
    """
    truths: dict[str, CellTruth] = {}
    skipped = []
    for inquiry in inquiries:
        if inquiry.mask is None:
            continue
        sample = run.image(inquiry.image).sample
        location = f"question {inquiry.id}"
        try:
            mask = inquiry.mask()
            check_shape(mask, sample.image_wh_px, location)
        except DatasetError as error:
            skipped.append(f"{location}: {error}")
            continue
        # A mask that fills the picture, or no cell, cannot rank cells.
        truth = CellTruth.of(mask, sample.base())
        if truth.positives.any() and truth.negatives.any():
            truths[inquiry.id] = truth
        else:
            skipped.append(
                f"{location}: expected an object and something around it, found one of them alone"
            )
    return truths, skipped


def strangers_of(
    inquiries: Sequence[Inquiry], truths: Truths, seed: int
) -> dict[str, list[CellTruth]]:
    """Return objects of other pictures on grids of as many cells, STRANGERS at most of each
    inquiry, drawn at random.
    """
    masked = [inquiry for inquiry in inquiries if inquiry.id in truths]
    # A random ring serves all inquiries: each takes the next ones as strangers.
    order = np.random.default_rng(seed).permutation(len(masked))
    ring = [masked[position] for position in order]
    strangers: dict[str, list[CellTruth]] = {}
    for position, inquiry in enumerate(ring):
        # Only objects on a grid of as many cells can be laid over the map.
        n_cells = len(truths[inquiry.id].positives)
        # Around the ring: the next ones that are of another picture.
        following = (ring[(position + step) % len(ring)] for step in range(1, len(ring)))
        candidates = (
            truths[stranger.id]
            for stranger in following
            if stranger.image != inquiry.image and len(truths[stranger.id].positives) == n_cells
        )
        strangers[inquiry.id] = [
            truth for truth, _ in zip(candidates, range(STRANGERS), strict=False)
        ]
    return strangers
