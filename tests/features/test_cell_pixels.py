"""Pixels of masks counted by the cells of a grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvtool.features.layers import cell_pixels, nearest_cells
from kvtool.types import GridSpan


@given(
    wh_px=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    cover_from=st.tuples(st.floats(-10, 5), st.floats(-10, 5)),
    seed=st.integers(0, 1000),
)
def test_each_pixel_is_counted_in_its_cell(
    wh_px: tuple[int, int], grid: tuple[int, int], cover_from: tuple[float, float], seed: int
) -> None:
    """Against a loop over all pixels, also where a cell has none or the cover ends within."""
    width, height = wh_px
    x0, y0 = cover_from
    span = GridSpan("base", 0, grid, grid[1], (x0, y0, x0 + 0.9 * width, y0 + 1.2 * height))
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    down, across = nearest_cells(span, wh_px)
    expected = np.zeros(grid, np.int64)
    for y, x in np.argwhere(mask):
        expected[down[y], across[x]] += 1
    counts = cell_pixels(mask, span)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, expected.reshape(-1))
