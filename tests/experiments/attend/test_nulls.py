"""Where there is nothing, attend finds it as often as it says: intervals around chance, and
input-agnostic keys that are like the others.
"""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.experiments.attend.measures import blocks_of, map_units, unit_rows
from kvtool.experiments.attend.relations import compared
from kvtool.experiments.attend.truths import CellTruth
from kvtool.types import Geometry

HEADS, PICTURES, TEXTS, CELLS = 200, 30, 3, 36
GEOMETRY = Geometry(
    layers=1, q_heads=HEADS, kv_heads=1, head_dim=1, hidden=1, vision_layers=0, vision_dim=0
)


@pytest.mark.slow
def test_intervals_of_auroc_hold_chance_by_picture_and_would_not_by_text() -> None:
    """Each head is a study by itself: maps that know nothing of objects, but are much alike for all
    texts of a picture, and so are the objects.
    """
    rng = np.random.default_rng(0)
    cells = np.arange(CELLS)
    units, pictures = [], []
    for picture in range(PICTURES):
        common = rng.normal(size=(HEADS, CELLS))
        positives = (rng.random(CELLS) < 0.3).astype(float)
        truth = CellTruth(positives, 1 - positives)
        for _ in range(TEXTS):
            maps = np.exp(common + 0.3 * rng.normal(size=(HEADS, CELLS)))
            maps *= 0.5 / maps.sum(axis=1, keepdims=True)
            units.append(map_units(maps, cells, truth, []))
            pictures.append(picture)
    blocks = blocks_of([0], GEOMETRY)
    stacked = np.stack(units, axis=1)

    def n_missed(labels: np.ndarray) -> int:
        """The studies whose interval does not hold chance."""
        rows = unit_rows(blocks, stacked, labels, has_masks=True, seed=0)
        assert {row["chance"] for row in rows} == {0.5}
        return sum(not row["auroc_low"] <= row["chance"] <= row["auroc_high"] for row in rows)

    assert n_missed(np.array(pictures)) <= 18  # of 200 with 5 % more have a chance of 1 %
    assert n_missed(np.arange(len(pictures))) > 40


@pytest.mark.slow
def test_keys_that_are_alike_are_told_apart_as_often_as_p_says() -> None:
    rng = np.random.default_rng(0)
    p = []
    for seed in range(100):
        rows = [
            {"input_agnostic": bool(n < 6), "mass": mass}
            for n, mass in enumerate(rng.exponential(size=32))
        ]
        (row,) = compared(rows, seed)
        assert (row["measure"], row["n_agnostic"], row["n_others"]) == ("mass", 6, 26)
        p.append(row["p"])
    assert np.mean(np.array(p) < 0.05) <= 0.11  # more has a chance of 1 %
    assert 0.4 < np.mean(p) < 0.6
    # What differs is found.
    rows = [{"input_agnostic": n < 6, "mass": float(n < 6) + 0.01 * n} for n in range(32)]
    assert compared(rows, 0)[0]["p"] < 0.01
