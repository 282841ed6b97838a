"""Which images of a run share the positions of their tokens, so that variance over them is defined.

A token position means the same place in every image of a layout and, for keys after the rotary
embedding, has the same rotation, so that the variance is that of the keys before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import UsageError
from kvtool.store import Run
from kvtool.types import Kind, Sample


@dataclass(frozen=True)
class GridLayout:
    """Images whose base grids have the same rows and columns at the same tokens.

    name: e.g. "20 x 15 tokens". tokens: the (token,) positions of the grid among an image's tokens.
    samples: the images by rising index.
    """

    name: str
    tokens: NDArray[np.int64]
    samples: tuple[Sample, ...]


def layouts_of(run: Run, kind: Kind, samples: Sequence[Sample]) -> list[GridLayout]:
    """Return the layouts of a run's images, the one of most images first, without those of one
    image.

    Raises UsageError for fewer than two images of one layout, and where images of one start at
    different prompt positions, so that their keys are rotated differently.
    """
    if len(samples) < 2:
        raise UsageError(
            f"variance: run {run.name}: expected 2 images or more, found {len(samples)}: extract "
            "more"
        )
    # Images are of one layout whose grid has the same shape, start and newlines.
    members: dict[str, list[Sample]] = {}
    for sample in samples:
        members.setdefault(_layout_name(sample, kind), []).append(sample)
    # An image alone on its grid has nothing to vary against.
    shared = {name: images for name, images in members.items() if len(images) > 1}
    if not shared:
        names = list(members)
        raise UsageError(
            f"variance: run {run.name}: image {members[names[0]][0].id} has {names[0]}, image "
            f"{members[names[1]][0].id} {names[1]}, and no two of {len(samples)} share their grid: "
            "the variance over images is taken at fixed token positions: extract more, or with "
            "--image-size"
        )
    # Keys after the rotary embedding differ by position alone, too.
    if kind == "key" and run.config.keys == "post-rope":
        for images in shared.values():
            _check_rotation(run, images)
    layouts = [
        GridLayout(name, np.array(images[0].base(kind).token_indices(), np.int64), tuple(images))
        for name, images in shared.items()
    ]
    return sorted(layouts, key=lambda layout: -len(layout.samples))


def _check_rotation(run: Run, samples: Sequence[Sample]) -> None:
    """Raise UsageError where images do not start at one prompt position."""
    first = samples[0]
    for sample in samples:
        if sample.image_start != first.image_start:
            raise UsageError(
                f"variance: run {run.name}: image {first.id} starts at prompt position "
                f"{first.image_start}, image {sample.id} at {sample.image_start}, so their keys "
                "are rotated differently: extract with --keys pre-rope, or with prefixes of one "
                "length"
            )


def _layout_name(sample: Sample, kind: Kind) -> str:
    """Return what images must share, in words."""
    span = sample.base(kind)
    rows, cols = span.grid
    newlines = ", with newlines" if span.row_stride != cols else ""
    return f"{rows} x {cols} tokens{newlines}" + (f" from token {span.start}" if span.start else "")
