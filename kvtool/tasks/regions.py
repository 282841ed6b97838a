"""Masks of images that know nothing of what the images show, for co-segmentation's chance level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

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


Predictor = Callable[[Sequence[GridSpan], Sequence[Array] | None], Iterator[Array]]
"""Gives the masks of a class's images, of each (draw, seed, cell), from where their grids lie and
the saliency of their cells, by which clusters are voted for where there is one."""


def predictors(n_seeds: int, seed: int) -> dict[str, Predictor]:
    """What knows nothing of values: everything is background, or foreground; or patches are
    clustered by where they lie alone.
    """
    return {
        "all background": partial(constant_masks, n_seeds, False),
        "all foreground": partial(constant_masks, n_seeds, True),
        "random regions": partial(random_regions, n_seeds, np.random.default_rng(seed)),
    }


def constant_masks(
    n_seeds: int,
    is_foreground: bool,
    spans: Sequence[GridSpan],
    _saliency: Sequence[Array] | None = None,
) -> Iterator[Array]:
    """Of each image (1, seed, cell): everything foreground, or nothing."""
    for span in spans:
        yield np.full((1, n_seeds, span.grid[0] * span.grid[1]), is_foreground)


def random_regions(
    n_seeds: int,
    rng: np.random.Generator,
    spans: Sequence[GridSpan],
    saliency: Sequence[Array] | None = None,
) -> Iterator[Array]:
    """Of each image (draw, seed, cell) bool: clusters of patches by the nearest of random points,
    the same in all images, of which the foreground is told as ever: those inside, or those that the
    saliency votes for.
    """
    from scipy.spatial.distance import cdist

    from kvtool.features.clusters import MOST_CLUSTERS, object_clusters

    # Guessed regions have the shape of clusters, not of noise: compact patches as objects are.
    grids = [span.grid for span in spans]
    # Positions of the cells, a whole image being a square of side 1.
    positions = [(np.indices(grid).reshape(2, -1).T + 0.5) / np.array(grid) for grid in grids]
    masks = [np.zeros((DRAWS, n_seeds, len(cells)), bool) for cells in positions]
    for draw in np.ndindex(DRAWS, n_seeds):
        # One set of points for all images of a class, as the clusters of a class are shared.
        points = rng.random((MOST_CLUSTERS, 2))
        labels = [cdist(cells, points).argmin(axis=1) for cells in positions]
        is_object = object_clusters(labels, grids, saliency, MOST_CLUSTERS)
        for mask, label in zip(masks, labels, strict=True):
            mask[draw] = is_object[label]
    yield from masks
