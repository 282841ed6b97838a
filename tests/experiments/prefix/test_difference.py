"""Intervals of the difference of two blocks that score the same units."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.stats.bootstrap import bootstrap
from kvtool.tasks.base import Array, Table
from kvtool.tasks.differences import difference
from tests.experiments.prefix.rows import mean_score


def table(values: Array, strata: Array | None = None) -> Table:
    """A block whose units score `values`: (found, total) twice, as pck_units has them."""
    return Table({}, np.stack([values, np.ones_like(values)], axis=-1)[None], mean_score, strata)


def test_a_paired_interval_is_narrow_where_units_move_together() -> None:
    rng = np.random.default_rng(0)
    without = rng.uniform(size=400)
    ours = without + 0.02 + rng.normal(scale=0.01, size=400)
    row = difference(table(ours), table(without), "score", 0)
    single = bootstrap(table(ours).units, mean_score)["score"]
    assert row["difference"] == pytest.approx((ours - without).mean())
    assert 0 < row["difference_low"] < 0.02 < row["difference_high"]
    assert row["difference_high"] - row["difference_low"] < (single.high - single.low)[0] / 10


def test_strata_are_kept_and_one_unit_has_no_interval() -> None:
    without, ours = np.array([0.0, 0.5, 1.0]), np.array([0.9, 0.2, 0.4])
    row = difference(table(ours, np.arange(3)), table(without, np.arange(3)), "score", 0)
    assert (
        row["difference_low"]
        == pytest.approx(row["difference"])
        == pytest.approx(row["difference_high"])
    )
    interval = difference(table(ours[:1]), table(without[:1]), "score", 0)
    assert interval == {"difference": 0.9, "difference_low": None, "difference_high": None}
