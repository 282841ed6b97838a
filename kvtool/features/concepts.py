"""What patches show of a concept, such as a category's word, by its mask."""

from __future__ import annotations

import numpy as np

from kvtool.features.layers import Array, cell_shares
from kvtool.types import GridSpan

SHOWN, NOT_SHOWN, UNSURE = 1, 0, -1
"""Labels of a patch."""


def concept_labels(mask: Array, span: GridSpan) -> Array:
    """Return what each patch shows of a concept, (row * col,) int8, row-major.

    Args:
        mask: (H, W), 1 where the concept is, 0 where it is not, 255 void.
        span: The grid of the patches.

    A patch shows the concept where at least half of its pixels do (SHOWN), and does not where none
    of them does (NOT_SHOWN). In between, where pixels are void, and where the picture has none,
    neither is sure (UNSURE).
    """
    n_concept = cell_shares(mask == 1, span)
    n_background = cell_shares(mask == 0, span)
    n_pixels = cell_shares(np.ones(mask.shape, bool), span)
    labels = np.full(len(n_pixels), UNSURE, np.int8)
    labels[(n_background == n_pixels) & (n_pixels > 0)] = NOT_SHOWN
    labels[(2 * n_concept >= n_pixels) & (n_pixels > 0)] = SHOWN
    return labels
