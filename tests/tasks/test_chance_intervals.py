"""The interval of chance: over the draws of a random predictor and over the units."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.tasks.base import Array, Table
from kvtool.tasks.chance import mean_row


def drawn_for_classes(rng: np.random.Generator, seeds: int) -> Table:
    """Scores, 0 on average, of 7 classes of 10 images under 8 draws: what a draw gets in a class is
    the same for its images.
    """
    shared = rng.normal(size=(8, 7, 1, seeds))
    images = 0.3 * rng.normal(size=(1, 7, 10, 1)) + 0.3 * rng.normal(size=(8, 7, 10, seeds))
    values = (shared + images).reshape(8, 70, seeds)
    units = np.stack([values, np.ones_like(values)], axis=-1).reshape(8, 70, -1)

    def scores(sums: Array) -> dict[str, Array]:
        totals = sums.reshape(*sums.shape[:-1], seeds, 2).sum(axis=-2)
        return {"j_mean": totals[..., 0] / totals[..., 1]}

    strata = np.repeat(np.arange(7), 10)
    return Table({}, units, scores, strata, repeats=seeds, drawn_by_stratum=True)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 1])
def test_the_interval_of_chance_is_over_draws_and_units(seeds: int) -> None:
    """Of 200 studies it holds the expected score in 95 %; over the images alone in far fewer."""
    covering = np.zeros(2)
    for study in range(200):
        by_class = drawn_for_classes(np.random.default_rng(study), seeds)
        tables = by_class, by_class._replace(drawn_by_stratum=False)
        for index, table in enumerate(tables):
            row = mean_row(table, study)
            covering[index] += row["j_mean_low"] <= 0 <= row["j_mean_high"]
    assert 0.92 <= covering[0] / 200 <= 0.98
    assert covering[1] / 200 < 0.8


@pytest.mark.slow
def test_draws_of_single_units_are_in_the_spread_of_the_units() -> None:
    """Of 400 studies of 60 units, which are drawn each by itself, the interval holds 0 in 95 %."""
    covering = 0
    for study in range(400):
        rng = np.random.default_rng(study)
        values = rng.normal(size=(1, 60)) + 2 * rng.normal(size=(8, 60))
        units = np.stack([values, np.ones_like(values)], axis=-1)
        table = Table({}, units, lambda sums: {"score": sums[..., 0] / sums[..., 1]})
        row = mean_row(table, study)
        covering += row["score_low"] <= 0 <= row["score_high"]
    assert 0.92 <= covering / 400 <= 0.98
