"""Score maps of an image, their masks, and what both are scored by; the masks and maps of what
knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvtool.features.layers import cell_pixels
from kvtool.metrics.ranking import ranking_scores, ranking_units
from kvtool.metrics.segmentation import binary_counts
from kvtool.result import Row
from kvtool.stats.bootstrap import Scores
from kvtool.tasks.base import Array
from kvtool.tasks.chance import DRAWS
from kvtool.types import GridSpan

if TYPE_CHECKING:
    from torch import Tensor

COUNTS = 7
"""Columns of `map_counts`."""
RANKING = slice(4, 7)
"""Those of them that `ranking_units` gives."""


class TruthMask(NamedTuple):
    """The true mask (height, width) bool of an image, which pixels count, and where the grid lies.

    keep: (height, width) bool, None where all pixels count.
    """

    mask: Array
    keep: Array | None
    span: GridSpan

    def n_cells(self) -> int:
        """How many cells the grid has."""
        return self.span.grid[0] * self.span.grid[1]


def map_counts(predicted: Array, maps: Array, truth: TruthMask) -> Array:
    """(..., 7) of masks (..., height, width) and the maps (..., cell) they were cut from: pixels of
    background and foreground intersection, then union, and ranking_units of the maps.
    """
    counts = binary_counts(predicted, truth.mask, truth.keep)
    counted = np.ones_like(truth.mask) if truth.keep is None else truth.keep
    # The map has one score a cell: its pixels of either kind are counted, none is drawn.
    positives, negatives = (
        cell_pixels(pixels, truth.span) for pixels in (truth.mask & counted, ~truth.mask & counted)
    )
    return np.concatenate([*counts, ranking_units(maps, positives, negatives)], axis=-1)


def guessed_counts(
    truths: Iterable[tuple[int, TruthMask]],
    cut: Callable[[Tensor, TruthMask], Array],
    n: int,
    seed: int,
) -> Iterator[tuple[str, Array]]:
    """What predictors that know nothing of an image get: their names and (draw, n, 7).

    Everything is background, or foreground, by a map that is constant; or the map is random, a
    normal number a patch, and is cut as the others are.

    Args:
        truths: the index of each unit among the n, and its truth.
        cut: gives the masks (draw, height, width) of maps (draw, cell).
        n: the number of units.
        seed: of the random maps.
    """
    import torch

    # Constant predictions need one draw; random ones several, to know their spread.
    measured = {
        "all background": np.zeros((1, n, COUNTS)),
        "all foreground": np.zeros((1, n, COUNTS)),
        "random map": np.zeros((DRAWS, n, COUNTS)),
    }
    for index, truth in truths:
        # A constant map ranks nothing: AUROC 0.5, average precision the share of foreground.
        flat = np.zeros((1, truth.n_cells()))
        nothing = np.zeros((1, *truth.mask.shape), bool)
        measured["all background"][:, index] = map_counts(nothing, flat, truth)
        measured["all foreground"][:, index] = map_counts(~nothing, flat, truth)
        # A generator of its own for each unit: what it draws depends on no other unit.
        maps = np.random.default_rng([seed, index]).normal(size=(DRAWS, truth.n_cells()))
        masks = cut(torch.from_numpy(maps.astype(np.float32)), truth)
        measured["random map"][:, index] = map_counts(masks, maps, truth)
    yield from measured.items()


def undefined(measured: Array) -> Row:
    """The field of rows that counts units (head, n, 7) without average precision and AUROC."""
    units = measured[0]
    # A unit that was not scored at all, such as a class that an image lacks, is not counted.
    scored = units[:, :4].any(axis=-1)
    return {"n_undefined": int((scored & (units[:, 6] == 0)).sum())}


def with_ranking(scores: Scores, ranking: slice) -> Scores:
    """Scores of units of which some columns are of `ranking_units`: its measures stand behind the
    primary one.
    """

    def both(sums: Array) -> dict[str, Array]:
        """Score sums (..., k)."""
        mask_scores = scores(sums)
        primary = next(iter(mask_scores))
        return {primary: mask_scores[primary]} | ranking_scores(sums[..., ranking]) | mask_scores

    return both
