"""The patch that `kvtool search` starts from."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from kvtool.errors import KvtoolError, UsageError
from kvtool.features.patches import Array, Patches
from kvtool.result import Row
from kvtool.types import Sample


@dataclass(frozen=True)
class Query:
    """The patch to search for: its number among all, the numbers of its image, its vector (1,
    dim)."""

    patches: Patches
    number: int
    image_range: tuple[int, int]
    vector: Array

    @property
    def own_score(self) -> float:
        """The score of the patch with itself: 1, or 0 for a zero vector; 0 for "l2"."""
        from kvtool.features.neighbors import nearest

        score, _ = nearest(
            self.vector[None], self.vector[None], metric=self.patches.metric, backend="numpy"
        )
        return float(score[0, 0, 0])

    @property
    def cell(self) -> Row:
        """The patch's row and column."""
        _, row, col = self.patches.place(self.number)
        return {"row": row, "col": col}


def query_patch(patches: Patches, image: str, at_px: tuple[float, float]) -> Query:
    """Return the patch at a pixel of an image.

    Raises UsageError, and KvtoolError for a vector that is not finite.
    """
    ids = [sample.id for sample in patches.samples]
    if image not in ids:
        similar = get_close_matches(image, ids, n=3, cutoff=0.4)
        hint = f"; nearest: {', '.join(map(repr, similar))}" if similar else ""
        raise UsageError(
            f"search: no image {image!r} among the {len(ids)} of run {patches.run.name}{hint}"
        )
    # Patches of all images are numbered through; the query is one of them.
    position = ids.index(image)
    sample = patches.samples[position]
    _check_inside(sample, patches, at_px)
    start, stop = patches.image_range(position)
    row, col = patches.span(sample).cell_at(*at_px)
    number = start + row * patches.span(sample).grid[1] + col
    # A patch whose vector is not finite is near to nothing.
    _, vector = patches.gather(np.array([number], np.int64))
    if not len(vector):
        raise KvtoolError(
            f"search: the vector at {_at(at_px)} of image {image} is not finite: choose another "
            "patch"
        )
    return Query(patches, number, (start, stop), vector)


def _check_inside(sample: Sample, patches: Patches, at_px: tuple[float, float]) -> None:
    """Check that a position is inside the image, and what the model saw of it. Raises
    UsageError."""
    x_px, y_px = at_px
    width, height = sample.image_wh_px
    x0, y0, x1, y1 = patches.span(sample).cover_xyxy_px
    # The view may reach beyond the picture, or show a part of it: both limit where patches are.
    left_px = max(x0, 0)
    top_px = max(y0, 0)
    right_px = min(x1, width)
    bottom_px = min(y1, height)
    if not (left_px <= x_px < right_px and top_px <= y_px < bottom_px):
        cropped = (
            ""
            if (left_px, top_px, right_px, bottom_px) == (0, 0, width, height)
            else ", of which the model saw a part"
        )
        raise UsageError(
            f"search: {_at(at_px)} is outside image {sample.id} ({width} x {height} px{cropped}): "
            f"expected x from {left_px:g} to below {right_px:g}, y from {top_px:g} to below "
            f"{bottom_px:g}"
        )


def _at(at_px: tuple[float, float]) -> str:
    return f"--at {at_px[0]:g},{at_px[1]:g}"
