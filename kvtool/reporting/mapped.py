"""Pictures on a page with the vectors of one block, whose similarity maps the page shows."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvtool.pictures.thumbnails import Drawn
from kvtool.store import Run
from kvtool.types import VIDEO, Block
from kvtool.web.grids import grid_record

PICTURES = 2
"""Pictures with vectors for each result at most."""


@dataclass(frozen=True)
class MappedPicture:
    """A picture, and what one block holds of its patches.

    Attributes:
        image: The image's id.
        picture: Its name among the page's pictures.
        wh_px: The size of the image in pixels.
        grid: Where the patches lie, as the viewer's module reads it.
        dtype: The precision that is stored.
        dim: The dimensions.
        vectors: The stored bits (cell, dim) in C order, compressed by deflate, as base64.
    """

    image: str
    picture: str
    wh_px: tuple[int, int]
    grid: dict[str, Any]
    dtype: str
    dim: int
    vectors: str


@dataclass
class VectorRoom:
    """The vectors of a page, and how many bytes more there may be."""

    budget_bytes: int
    n_refused: int = 0
    _pictures: dict[tuple[str, Block, str], MappedPicture] = field(default_factory=dict)

    def add(self, run: Run, block: Block, image: str, picture: Drawn) -> MappedPicture | None:
        """Return a picture with its vectors; None where there is no room left."""
        key = run.config.hash, block, image
        if key not in self._pictures:
            mapped = _mapped(run, block, image, picture.picture)
            # The budget is of the page: pictures that came first keep their maps.
            if len(mapped.vectors) > self.budget_bytes:
                self.n_refused += 1
                return None
            self.budget_bytes -= len(mapped.vectors)
            self._pictures[key] = mapped
        return self._pictures[key]


def mapped_images(run: Run) -> list[str]:
    """Return the images of a run that get a map; of videos none, since a map is of one picture."""
    return [] if run.config.view == VIDEO else [view.id for view in run.views[:PICTURES]]


def _mapped(run: Run, block: Block, image: str, picture: str) -> MappedPicture:
    """Return a picture with the vectors of its base grid."""
    sample = next(view for view in run.views if view.id == image)
    span = sample.base(block.kind)
    # The tokens of the grid alone, row by row: no newline tokens, no tiles.
    stored = run.read(block.kind, block.layer, block.kv_head, [image], raw=True).values
    vectors = np.ascontiguousarray(stored[span.token_indices()])
    return MappedPicture(
        image=image,
        picture=picture,
        wh_px=sample.image_wh_px,
        grid=grid_record(span),
        dtype=run.config.model.dtype,
        dim=vectors.shape[1],
        vectors=base64.b64encode(zlib.compress(vectors.tobytes(), 9)).decode(),
    )
