"""Numbers of maps of attention against slow ones, and localization heads that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy as scipy_entropy

from kvtool.features.attention_maps import (
    border_cells,
    count_sinks,
    entropy,
    sink_share,
    sink_tokens,
    smoothed_sum,
    spatial_entropy,
)
from kvtool.features.localization import HeadChoice, elbow
from kvtool.features.sinks import COLUMN, PictureSinks, SinkSums

GRID = (6, 7)
N_CELLS = 42


def random_maps(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((*shape, N_CELLS)) ** 4


def pieces_by_hand(image: Any) -> list[int]:
    """Sizes of what touches above the mean, corners included, by flooding."""
    left = set(zip(*np.nonzero(image > image.mean()), strict=True))
    sizes = []
    while left:
        border, size = [left.pop()], 0
        while border:
            row, col = border.pop()
            size += 1
            touching = {(row + a, col + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= touching
            border += touching
        sizes.append(size)
    return sizes


def test_entropy_and_sink_share_equal_slow_ones() -> None:
    maps = random_maps(3, 5)
    for index in np.ndindex(3, 5):
        shares = maps[index] / maps[index].sum()
        assert entropy(maps)[index] == pytest.approx(scipy_entropy(shares) / np.log(N_CELLS))
        assert sink_share(maps)[index] == pytest.approx(shares.max())
    assert count_sinks(99) == 1
    assert count_sinks(729) == 7
    many = np.random.default_rng(1).random((2, 300))
    top = np.sort(many, axis=1)[:, -3:].sum(axis=1) / many.sum(axis=1)
    np.testing.assert_allclose(sink_share(many), top)
    np.testing.assert_array_equal(sink_tokens(many), np.argsort(-many, axis=1)[:, :3])


def test_edges_of_entropy() -> None:
    assert entropy(np.ones(8)) == pytest.approx(1)
    assert entropy(np.eye(8)[0]) == 0
    assert np.isnan(entropy(np.zeros(8)))
    assert np.isnan(sink_share(np.zeros(8)))
    assert entropy(np.ones(1)) == 0


def test_spatial_entropy_equals_flooding_by_hand() -> None:
    maps = random_maps(12, seed=3) ** 4
    for number, value in enumerate(spatial_entropy(maps, GRID)):
        sizes = pieces_by_hand(maps[number].reshape(GRID))
        assert value == pytest.approx(scipy_entropy(sizes))
    assert spatial_entropy(maps, GRID).max() > 0.5
    assert spatial_entropy(np.eye(N_CELLS)[:1], GRID) == 0
    assert np.isinf(spatial_entropy(np.ones((1, N_CELLS)), GRID))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_even_map_has_no_piece_however_its_mean_is_rounded(dtype: Any) -> None:
    """A piece of all cells would have entropy 0, as the map of a head that finds one object."""
    values = np.random.default_rng(0).random((300, 1)).astype(dtype)
    even = np.repeat(values, 24 * 24, axis=1)
    assert (even > even.mean(axis=1, keepdims=True)).any()
    assert np.isinf(spatial_entropy(even, (24, 24))).all()
    even[:, 5] *= 1.5
    assert (spatial_entropy(even, (24, 24)) == 0).all()


def test_smoothing_keeps_the_place() -> None:
    maps = np.eye(N_CELLS)[[17, 17]]
    smooth = smoothed_sum(maps, GRID)
    assert smooth.argmax() == 17
    assert smooth.sum() == pytest.approx(2)


def test_border() -> None:
    border = border_cells(GRID).reshape(GRID)
    assert border.sum() == N_CELLS - 4 * 5
    assert not border[1:-1, 1:-1].any()
    assert border_cells((1, 3)).all()


def test_the_elbow() -> None:
    assert elbow(np.array([0.05, 0.9, 0.1, 0.8, 0.06])) == 0.8
    assert elbow(np.array([0.3, 0.2, 0.1])) == 0.1
    assert elbow(np.array([0.2, 0.2])) == 0.2


def test_planted_localization_heads_are_chosen() -> None:
    """Heads 3 and 11 look at one place; head 7 too, but hardly at the picture at all."""
    rng = np.random.default_rng(0)
    choice = HeadChoice(20)
    for _ in range(15):
        maps = rng.random((20, N_CELLS)) ** 6
        for head in (3, 7, 11):
            maps[head] = np.eye(N_CELLS)[rng.integers(N_CELLS)]
        mass = np.full(20, 0.6)
        mass[[7, 8, 9]] = 0.001
        choice.add(spatial_entropy(maps, GRID), mass)
    assert set(choice.heads(2)) == {3, 11}
    frequencies = choice.frequencies()
    assert frequencies[[3, 11]].tolist() == [1, 1]
    assert frequencies[[7, 8, 9]].tolist() == [0, 0, 0]
    assert len(choice.heads(3)) == 3


def test_sums_of_sinks_equal_slow_ones() -> None:
    rng = np.random.default_rng(5)
    n_keys, n_pictures, dim = 4, 6, 3
    sums = SinkSums(n_keys)
    pictures = []
    for _ in range(n_pictures):
        maps = rng.random((n_keys, N_CELLS))
        maps[0, 9] = 5  # a sink in every picture
        keys, values = rng.normal(size=(2, n_keys, N_CELLS, dim))
        pictures.append((maps, keys, values))
        sums.add(PictureSinks.of(maps, maps.sum(axis=1), keys, values, GRID), GRID)
    overlap, chance = sums.overlap()
    assert chance == pytest.approx(1 / N_CELLS)
    for key in range(n_keys):
        sinks = [maps[key].argmax() for maps, _, _ in pictures]
        pairs = [(a, b) for a in range(n_pictures) for b in range(n_pictures) if a != b]
        assert overlap[key] == pytest.approx(np.mean([sinks[a] == sinks[b] for a, b in pairs]))
        vectors = np.array([v[key, sink] for (_, _, v), sink in zip(pictures, sinks, strict=True)])
        common = (vectors.mean(axis=0) ** 2).sum() / (vectors**2).sum(axis=1).mean()
        assert sums.at_sinks is not None
        assert sums.at_sinks.dependence()[key] == pytest.approx(1 - common)
        norms = [np.linalg.norm(k[key], axis=1) for _, k, _ in pictures]
        for number, (norm, sink) in enumerate(zip(norms, sinks, strict=True)):
            unit = sums.units[number][key]
            assert unit[COLUMN["key_norm"]] == pytest.approx(norm[sink])
            assert unit[COLUMN["key_norm_others"]] == pytest.approx(np.delete(norm, sink).mean())
            assert unit[COLUMN["border"]] == border_cells(GRID)[sink]
    assert overlap[0] == 1
