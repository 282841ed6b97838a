"""The interval of a score less chance, where no resample can give one."""

from __future__ import annotations

import numpy as np

from kvtool.tasks.base import ChanceLevel, Table, table_rows


def test_no_hit_of_a_few_units_is_not_surely_below_chance() -> None:
    """Every resample of a block without a hit has none: its difference to chance is as uncertain
    as its score.
    """
    hits = np.zeros((1, 8, 2))
    hits[..., 1] = 1
    guesses = hits.repeat(4, axis=0)
    guesses[0, :2, 0] = 1
    table = Table({}, hits, lambda sums: {"pck": sums[..., 0] / sums[..., 1]})
    level = ChanceLevel({}, "pck", guesses)
    (row,) = table_rows([{"kind": "value"}], table, 0, None, level)
    assert (row["pck"], row["pck_low"]) == (0, 0)
    assert row["chance_difference"] < 0 < row["chance_difference_high"]
    assert row["chance_difference_high"] > row["pck_high"] - 2 / 8
