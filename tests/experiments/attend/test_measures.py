"""What is measured of a map, where its numbers are at an edge."""

from __future__ import annotations

import numpy as np

from kvtool.experiments.attend.measures import blocks_of, map_units, unit_rows
from kvtool.types import Geometry

GEOMETRY = Geometry(
    layers=1, q_heads=1, kv_heads=1, head_dim=1, hidden=1, vision_layers=0, vision_dim=0
)


def test_rounding_makes_no_mass_above_one() -> None:
    """Four weights of float32 that are a little more than 1 together."""
    maps = np.full((1, 4), np.nextafter(np.float32(0.25), np.float32(1)))
    assert maps.astype(np.float64).sum() > 1
    units = np.stack([map_units(maps, np.arange(4), None, [])] * 3, axis=1)
    (row,) = unit_rows(blocks_of([0], GEOMETRY), units, np.arange(3), has_masks=False, seed=0)
    assert (row["mass"], row["mass_text"]) == (1, 0)
    assert row["mass_low"] < row["mass_high"] == 1
    assert row["mass_text_high"] > row["mass_text_low"] == 0
