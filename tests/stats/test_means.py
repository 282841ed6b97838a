"""Means of several tasks' scores: their intervals hold the truth, whatever images tasks share."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.stats.bootstrap import Estimate, bootstrap, mean_over_tasks, ratio


def test_tasks_of_one_source_are_taken_to_err_alike() -> None:
    """Their distances add up; those of other sources as roots of squares."""
    estimates = [Estimate(np.array(v), np.array(v - d), np.array(v + 2 * d)) for v, d in SCORES]
    mean = mean_over_tasks(estimates, ["a", "a", "b"])
    away = ((0.1 + 0.2) ** 2 + 0.3**2) ** 0.5 / 3
    assert float(mean.value) == pytest.approx(0.5)
    assert float(mean.value - mean.low) == pytest.approx(away)
    assert float(mean.high - mean.value) == pytest.approx(2 * away)


SCORES = ((0.3, 0.1), (0.5, 0.2), (0.7, 0.3))


@pytest.mark.slow
def test_means_cover_the_truth() -> None:
    """1,000 studies of four tasks of unequal sizes: nominal 95 % intervals of the mean."""
    rng = np.random.default_rng(0)
    truths, sizes = (0.3, 0.6, 0.5, 0.8), (60, 90, 140, 70)
    inside = 0
    for seed in range(1000):
        estimates = []
        for truth, size in zip(truths, sizes, strict=True):
            scores = rng.beta(4 * truth, 4 * (1 - truth), size)
            units = np.stack([scores, np.ones(size)], axis=-1)
            estimates.append(
                bootstrap(
                    units,
                    lambda sums: {"x": ratio(sums[..., 0], sums[..., 1])},
                    draws=200,
                    seed=seed,
                )["x"]
            )
        mean = mean_over_tasks(estimates, range(4))
        inside += bool(mean.low <= np.mean(truths) <= mean.high)
    assert 930 <= inside <= 970


@pytest.mark.slow
def test_tasks_that_share_their_images_cover_the_truth() -> None:
    """1,000 studies of three tasks over the same 80 images, which are as hard for each of them:
    as independent ones their mean's interval is too narrow.
    """
    rng = np.random.default_rng(1)
    inside = {"one": 0, "several": 0}
    for seed in range(1000):
        hardness = rng.normal(size=80)
        scores = hardness + 0.5 * rng.normal(size=(3, 80))
        units = np.stack([scores, np.ones_like(scores)], axis=-1)
        ends = bootstrap(
            units,
            lambda sums: {"x": ratio(sums[..., 0], sums[..., 1])},
            draws=200,
            seed=seed,
        )["x"]
        estimates = [Estimate(*(end[task] for end in ends)) for task in range(3)]
        for name, sources in (("one", [0, 0, 0]), ("several", [0, 1, 2])):
            mean = mean_over_tasks(estimates, sources)
            inside[name] += bool(mean.low <= 0 <= mean.high)
    assert inside["several"] < 850
    assert 930 <= inside["one"] <= 990
