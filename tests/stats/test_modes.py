"""Two modes or one: what is planted is found, chance is not, and the cut is where nobody is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from kvtool.stats import modes
from kvtool.stats.modes import deepest_valley, describe

Array = NDArray[np.float64]


def as_in_the_paper(seed: int) -> Array:
    """42 keys around 200 and 70 around 600."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(200, 50, 42), rng.normal(600, 80, 70)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_papers_two_modes(seed: int) -> None:
    values = as_in_the_paper(seed)
    shape = describe(values, 0)
    assert shape.bimodal
    assert shape.valley is not None
    assert shape.valley_ratio is not None
    assert shape.modes[0] == pytest.approx(200, rel=0.25)
    assert shape.modes[1] == pytest.approx(600, rel=0.15)
    assert 270 < shape.valley < 480
    assert np.sum((values < shape.valley) != (np.arange(112) < 42)) <= 3
    assert shape.valley_ratio < 0.6
    assert sum(shape.counts) == 112
    assert len(shape.bin_edges) == len(shape.counts) + 1


def test_scale_does_not_matter() -> None:
    values = as_in_the_paper(0)
    shape, scaled = describe(values, 0), describe(values * 1e-5, 0)
    assert shape.valley is not None
    assert scaled.valley == pytest.approx(shape.valley * 1e-5)
    assert scaled.p_value == shape.p_value


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 112])
@pytest.mark.parametrize("shape", ["lognormal", "uniform", "exponential"])
def test_one_mode_is_rarely_taken_for_two(
    monkeypatch: pytest.MonkeyPatch, n: int, shape: str
) -> None:
    """At a level of 5 %, 40 samples: more than 6 has a chance of 1.4 %."""
    monkeypatch.setattr(modes, "DRAWS", 99)
    rng = np.random.default_rng(5)
    samples = {
        "lognormal": rng.lognormal(5, 0.4, (40, n)),
        "uniform": np.exp(rng.uniform(4, 7, (40, n))),
        "exponential": rng.exponential(100, (40, n)),
    }[shape]
    assert sum(describe(sample, seed).bimodal for seed, sample in enumerate(samples)) <= 6


def test_few_far_away_are_outliers() -> None:
    rng = np.random.default_rng(0)
    shape = describe(np.concatenate([rng.lognormal(5, 0.3, 109), [0.0, 1e-4, 1e5]]), 0)
    assert not shape.bimodal
    assert shape.modes == [pytest.approx(np.exp(5), rel=0.3)]


@pytest.mark.slow
def test_an_outlier_does_not_hide_two_modes() -> None:
    shape = describe(np.append(as_in_the_paper(0), 30_000), 0)
    assert shape.bimodal
    assert shape.valley is not None
    assert 270 < shape.valley < 480


def test_keys_that_never_change() -> None:
    shape = describe(np.concatenate([np.zeros(14), np.random.default_rng(0).normal(16, 1, 98)]), 0)
    assert shape.bimodal
    assert shape.valley is not None
    assert 0 < shape.valley < 10


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(20), "no variance at all"),
        (np.zeros(0), "no variance at all"),
        (np.array([1.0, 1.1, 90.0, 95.0]), "found 4"),
        (np.full(20, 3.0), "all keys vary alike"),
    ],
)
def test_what_cannot_be_asked(values: Array, reason: str) -> None:
    shape = describe(values, 0)
    assert not shape.bimodal
    assert reason in shape.reason
    assert (shape.valley, shape.p_value) == (None, None)
    assert sum(shape.counts) in (0, len(values))


def test_valley_and_modes_are_those_of_scipys_density() -> None:
    logs = np.log(as_in_the_paper(1))
    _, valley = deepest_valley(logs)
    assert valley is not None
    bandwidth = modes._bandwidth(logs)
    density = gaussian_kde(logs, bw_method=bandwidth / logs.std(ddof=1))
    grid = np.linspace(valley.lower_mode, valley.upper_mode, 4000)
    assert grid[density(grid).argmin()] == pytest.approx(valley.bottom, abs=0.01)
    assert density(valley.bottom)[0] / min(
        density(valley.lower_mode)[0], density(valley.upper_mode)[0]
    ) == pytest.approx(valley.ratio, rel=1e-6)
