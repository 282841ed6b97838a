"""Masks of images that know nothing of what the images show, for co-segmentation's chance level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from kvtool.features.layers import nearest_cells
from kvtool.tasks.base import Array
from kvtool.tasks.chance import DRAWS
from kvtool.types import GridSpan


def on_pixels(tokens: Array, span: GridSpan, wh_px: tuple[int, int]) -> Array:
    """(height, width) of a mask (cell,): each pixel as the cell it lies in."""
    rows, cols = nearest_cells(span, wh_px)
    mask: Array = tokens.reshape(span.grid)[rows[:, None], cols]
    return mask


def constant_masks(n_seeds: int, is_foreground: bool, spans: Sequence[GridSpan]) -> Iterator[Array]:
    """Of each image (1, seed, cell): everything foreground, or nothing."""
    for span in spans:
        yield np.full((1, n_seeds, span.grid[0] * span.grid[1]), is_foreground)


def random_regions(
    n_seeds: int, rng: np.random.Generator, spans: Sequence[GridSpan]
) -> Iterator[Array]:
    """Of each image (draw, seed, cell) bool: clusters of patches by the nearest of random points,
    the same in all images, of which those inside are foreground as ever.
    """
    from scipy.spatial.distance import cdist

    from kvtool.features.clusters import MOST_CLUSTERS, inside_clusters

    grids = [span.grid for span in spans]
    # Positions of the cells, a whole image being a square of side 1.
    positions = [(np.indices(grid).reshape(2, -1).T + 0.5) / np.array(grid) for grid in grids]
    masks = [np.zeros((DRAWS, n_seeds, len(cells)), bool) for cells in positions]
    for draw in np.ndindex(DRAWS, n_seeds):
        points = rng.random((MOST_CLUSTERS, 2))
        labels = [cdist(cells, points).argmin(axis=1) for cells in positions]
        is_object = inside_clusters(labels, grids, MOST_CLUSTERS)
        for mask, label in zip(masks, labels, strict=True):
            mask[draw] = is_object[label]
    yield from masks
