"""Paired differences of blocks and their p: under no difference few are sure, a planted one is."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from kvtool.tasks.base import Array, Table
from kvtool.tasks.differences import difference, difference_p, differences
from tests.support.nulls import NULLS, share_sure


def mean_score(sums: Array) -> dict[str, Array]:
    return {"score": sums[..., 0] / sums[..., 1]}


def table(values: Array, clusters: Array | None = None) -> Table:
    """Blocks (block, n) whose units score `values`."""
    units = np.stack([values, np.ones_like(values)], axis=-1)
    return Table({}, units, mean_score, clusters=clusters)


def p_of(ours: Table, without: Table) -> float | None:
    return difference_p(ours, without, "score", difference(ours, without, "score", 0), 0)


def test_several_blocks_are_compared_as_each_by_itself() -> None:
    ours, without = np.random.default_rng(0).uniform(size=(2, 3, 30))
    rows = differences(table(ours), table(without), "score", 0)
    for index, row in enumerate(rows):
        head = slice(index, index + 1)
        single = difference(table(ours[head]), table(without[head]), "score", 0)
        assert row == pytest.approx(single)
        assert row["difference"] == pytest.approx((ours[index] - without[index]).mean())


def test_of_units_that_share_a_picture_the_picture_is_swapped() -> None:
    """Each unit ten times over proves no more than once."""
    ours, without = np.random.default_rng(1).uniform(size=(2, 1, 12))
    clusters = np.repeat(np.arange(12), 10)
    repeated = [table(values.repeat(10, axis=1), clusters) for values in (ours, without)]
    p = p_of(table(ours), table(without))
    assert p_of(*repeated) == pytest.approx(p, abs=0.03)
    careless = [table(values.repeat(10, axis=1)) for values in (ours, without)]
    assert p is not None
    assert (p_of(*careless) or 0.0) < p / 2


def test_a_shift_of_all_pairs_is_sure_and_none_is_not() -> None:
    pairs = np.array(list(permutations(range(10), 2)))
    rng = np.random.default_rng(2)
    without = rng.uniform(size=(1, len(pairs)))
    shifted = without + 0.1 + 0.01 * rng.normal(size=without.shape)
    p = p_of(table(shifted, pairs), table(without, pairs))
    assert p == 0.5**9  # all that ten pictures can say
    assert p_of(table(without, pairs), table(without, pairs)) == 1.0


def test_what_is_not_defined_has_no_p() -> None:
    values = np.ones((1, 1))
    assert p_of(table(values), table(values)) is None
    nonfinite = difference(table(np.ones((1, 4))), table(np.ones((1, 4))), "score", 0, np.ones(1))
    arguments = (table(np.ones((1, 4))), table(np.ones((1, 4))), "score", nonfinite, 0)
    assert difference_p(*arguments) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_of_no_difference_five_percent_are_sure(name: str) -> None:
    """In few studies; the long simulation is tests/bench/null_differences.py."""
    assert 0.01 <= share_sure(name, studies=200) <= 0.10
