"""Sinks: the few image tokens that draw a key's attention whatever the text, over many pictures.

What is summed up of each picture is a number or a vector a key, so that the memory does not grow
with the pictures but for the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from kvtool.features.attention_maps import (
    Array,
    border_cells,
    count_sinks,
    sink_share,
    sink_tokens,
)
from kvtool.stats.resampling import ratio

COLUMNS = (
    *("pictures", "mass", "sink_share", "border"),
    *("key_norm", "key_norm_others", "value_norm", "value_norm_others"),
)
"""What is known of a key on one picture: means over its sinks, or over the other cells."""
COLUMN = {name: number for number, name in enumerate(COLUMNS)}


class PictureSinks(NamedTuple):
    """The sinks of each key on one picture, and what is summed up over pictures.

    Attributes:
        sinks: Their cells, (key, sink).
        units: Numbers of the picture, (key, COLUMNS).
        sink_total, other_total: Sums of the values at sinks and at other cells, (key, dim).
        sink_squares, other_squares: Sums of their squared lengths, (key,).
    """

    sinks: Array
    units: Array
    sink_total: Array
    other_total: Array
    sink_squares: Array
    other_squares: Array

    @classmethod
    def of(
        cls, maps: Array, mass: Array, keys: Array, values: Array, grid: tuple[int, int]
    ) -> PictureSinks:
        """Measure a picture.

        Args:
            maps: Attention on the cells of the base grid, (key, cell).
            mass: Attention on all tokens of the picture, (key,).
            keys: The key vectors of the cells, (key, cell, dim).
            values: The value vectors of the cells, (key, cell, dim).
            grid: Rows and columns of the base grid.
        """
        # (key, sink) indices, and the same as a mask over cells.
        sinks = sink_tokens(maps)
        is_sink = np.zeros(maps.shape, bool)
        np.put_along_axis(is_sink, sinks, values=True, axis=1)
        # In the order of COLUMNS; a map without mass has no share, and counts as 0.
        columns = [np.ones(len(maps)), mass, np.nan_to_num(sink_share(maps))]
        columns.append(border_cells(grid)[sinks].mean(axis=1))
        for vectors in (keys, values):
            norms = np.linalg.norm(vectors, axis=-1)
            columns += [_mean(norms, is_sink), _mean(norms, ~is_sink)]
        # Each key has as many sinks as any other, so that both are arrays.
        dim = values.shape[-1]
        sink_values, other_values = (
            values[selection].reshape(len(maps), -1, dim).astype(np.float64)
            for selection in (is_sink, ~is_sink)
        )
        return cls(
            sinks,
            np.stack(columns, axis=1),
            sink_values.sum(axis=1),
            other_values.sum(axis=1),
            (sink_values**2).sum(axis=(1, 2)),
            (other_values**2).sum(axis=(1, 2)),
        )


@dataclass
class VectorSpread:
    """Sums of vectors (key, dim) by which it is known what they have in common.

    Attributes:
        total: The sum of the vectors, (key, dim).
        squares: The sum of their squared lengths, (key,).
        count: Their number.
    """

    total: Array
    squares: Array
    count: int = 0

    def add(self, total: Array, squares: Array, count: int) -> None:
        """Take in the sums of further vectors."""
        self.total = self.total + total
        self.squares = self.squares + squares
        self.count += count

    def dependence(self) -> Array:
        """Return the share of the mean squared length that is not that of the mean vector, (key,):
        0 where all vectors are the same, 1 where they have nothing in common.
        """
        # Without a vector all sums are 0, and nothing is divided by 0.
        count = max(1, self.count)
        # Were all vectors alike, the mean's square would be the mean of squares.
        common = ((self.total / count) ** 2).sum(axis=1)
        dependence: Array = np.clip(1 - ratio(common, self.squares / count), 0, 1)
        return dependence


@dataclass
class SinkSums:
    """Sums over pictures of what is measured of each key.

    Attributes:
        n_keys: The number of keys.
        units: Numbers of each picture, (key, COLUMNS).
        at_sinks, at_others: The values there.
        counts: For each grid how often each cell was a sink, (key, cell).
        n_pictures: For each grid the number of pictures.
    """

    n_keys: int
    units: list[Array] = field(default_factory=list)
    at_sinks: VectorSpread | None = None
    at_others: VectorSpread | None = None
    counts: dict[tuple[int, int], Array] = field(default_factory=dict)
    n_pictures: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, picture: PictureSinks, grid: tuple[int, int]) -> None:
        """Take in a picture; grid: rows and columns of its base grid."""
        n_cells, n_sinks = grid[0] * grid[1], picture.sinks.shape[1]
        if self.at_sinks is None or self.at_others is None:
            zeros = np.zeros(picture.sink_total.shape), np.zeros(self.n_keys)
            self.at_sinks, self.at_others = VectorSpread(*zeros), VectorSpread(*zeros)
        self.at_sinks.add(picture.sink_total, picture.sink_squares, n_sinks)
        self.at_others.add(picture.other_total, picture.other_squares, n_cells - n_sinks)
        self.units.append(picture.units)
        # Counts by cell serve the overlap of all pairs of pictures, without any pair.
        is_sink = np.zeros((self.n_keys, n_cells))
        np.put_along_axis(is_sink, picture.sinks, values=1, axis=1)
        self.counts[grid] = self.counts.get(grid, 0) + is_sink
        self.n_pictures[grid] = self.n_pictures.get(grid, 0) + 1

    def overlap(self) -> tuple[Array, float]:
        """Return for which share of a picture's sinks the same cell is a sink of another picture
        too, the mean over pairs of pictures of one grid, (key,); and what sinks at random cells
        would get. Both are NaN without a pair.
        """
        shared = np.zeros(self.n_keys)
        by_chance = 0.0
        n_pairs = 0
        for grid, counts in self.counts.items():
            n = self.n_pictures[grid]
            n_cells = counts.shape[1]
            n_sinks = count_sinks(n_cells)
            # A cell that is a sink of c pictures is shared by c (c - 1) ordered pairs.
            shared += (counts * (counts - 1)).sum(axis=1) / n_sinks
            # Sinks at random cells hit a given sink's cell with probability n_sinks / n_cells.
            by_chance += n * (n - 1) * n_sinks / n_cells
            n_pairs += n * (n - 1)
        if not n_pairs:
            return np.full(self.n_keys, np.nan), float("nan")
        return shared / n_pairs, by_chance / n_pairs

    def border_chance(self) -> float:
        """Return the share of cells that lie on the border of their grid, over pictures."""
        shares = [(border_cells(grid).mean(), n) for grid, n in self.n_pictures.items()]
        return float(sum(share * n for share, n in shares) / sum(n for _, n in shares))


def _mean(norms: Array, selection: Array) -> Array:
    """Return the mean of numbers (key, cell) over chosen cells of each key."""
    return ratio((norms * selection).sum(axis=1), selection.sum(axis=1))
