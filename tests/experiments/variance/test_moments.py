"""Variance: equal to NumPy's however the sums are cut and merged; its intervals and its memory."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.features import moments
from kvtool.features.grids import layouts_of
from kvtool.features.moments import Moments, distances, stream_groups
from kvtool.features.variances import measure
from kvtool.stats.bootstrap import bootstrap, ratio
from tests.experiments.variance.sums import by_numpy
from tests.support.keys import Array, planted, samples, write


def gather(values: Array) -> Moments:
    heads, _, tokens, dim = values.shape
    moments = Moments.zeros(heads, tokens, dim)
    moments.add(values)
    return moments


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_cut_and_merge_tree_agree(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 24))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = rng.normal(data.draw(st.sampled_from([0, 1e3])), 1, (2, n, 3, 5)).astype(np.float32)
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1))))
    pieces = [gather(part) for part in np.split(values[:, rng.permutation(n)], cuts, axis=1)]
    while len(pieces) > 1:
        first, second = (pieces.pop(int(rng.integers(len(pieces)))) for _ in range(2))
        pieces.append(first.merge(second))
    in_one_go = gather(values)
    assert pieces[0].n == n
    np.testing.assert_allclose(pieces[0].variance, in_one_go.variance, rtol=1e-12)
    np.testing.assert_allclose(in_one_go.variance, by_numpy(values), rtol=1e-12)


def test_adding_piece_by_piece_is_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "WIDTH", 7)
    values = np.random.default_rng(0).normal(100, 1, (2, 10, 3, 5)).astype(np.float32)
    pooled = gather(values[:, :4])
    pooled.add(values[:, 4:])
    np.testing.assert_allclose(pooled.variance, by_numpy(values), rtol=1e-12)
    merged = gather(values[:, :7]).merge(gather(values[:, 7:]))
    np.testing.assert_allclose(merged.variance, by_numpy(values), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("part_size", "groups"), [(3, 32), (8, 32), (8, 4), (50, 7)])
def test_a_run_equals_numpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, part_size: int, groups: int
) -> None:
    monkeypatch.setattr(moments, "GROUPS", groups)
    values = np.random.default_rng(1).normal(50, 2, (20, 3, 2, 12, 8))
    run = write(tmp_path / "s", samples(20), values, part_size=part_size, dtype=dtype)
    rows = measure(run, "key", 0)
    assert [(row["layer"], row["kv_head"]) for row in rows] == [
        (i, h) for i in range(3) for h in range(2)
    ]
    stored = np.array(
        [[run.read("key", i, h).values.reshape(20, 12, 8) for h in range(2)] for i in range(3)]
    )
    expected = np.concatenate([by_numpy(layer) for layer in stored])
    np.testing.assert_allclose([row["variance"] for row in rows], expected, rtol=1e-10)


def test_only_the_base_grid_counts(tmp_path: Path) -> None:
    """Tokens before the grid, at the ends of its rows and after it are not part of it; of the last,
    images may have different numbers, as the tiles of the full view have.
    """
    images = [
        replace(image, n_tokens=image.n_tokens + image.index)
        for image in samples(6, newline=True, start=2)
    ]
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 1, (2, 3, image.n_tokens, 8)).astype(np.float32) for image in images]
    rows = measure(write(tmp_path / "s", images, values), "key", 0)
    tokens = images[0].base().token_indices()
    assert len(tokens) == 12 < images[0].n_tokens
    on_grid = np.stack([array[:, :, tokens] for array in values])
    expected = [by_numpy(on_grid[:, layer].transpose(1, 0, 2, 3)) for layer in range(2)]
    np.testing.assert_allclose(
        [row["variance"] for row in rows], np.concatenate(expected), rtol=1e-10
    )


def test_partial_sums_of_processes_are_those_of_the_run(tmp_path: Path) -> None:
    run = planted(tmp_path / "s", 12, layers=2)
    layouts = layouts_of(run, "key", run.samples)
    variances = {
        layer: reduce(Moments.merge, groups).variance
        for layer, (groups,) in stream_groups(run, "key", layouts)
    }
    shares = [dict(stream_groups(run, "key", layouts, run.ids[share::3])) for share in range(3)]
    for layer, expected in variances.items():
        merged = reduce(Moments.merge, [group for share in shares for group in share[layer][0]])
        assert merged.n == 12
        np.testing.assert_allclose(merged.variance, expected, rtol=1e-12)
        np.testing.assert_allclose(
            variances[layer], [row["variance"] for row in measure(run, "key", 0)][4 * layer :][:4]
        )


def test_intervals_are_from_the_groups_distances_to_the_mean_of_all() -> None:
    values = np.random.default_rng(2).normal(20, 1, (2, 12, 4, 3))
    parts = np.split(values, [3, 4, 9], axis=1)
    mean = values.mean(axis=1, keepdims=True)
    expected = np.stack([((part - mean) ** 2).sum(axis=(1, 2, 3)) for part in parts], axis=-1)
    spreads = distances([gather(part) for part in parts])
    np.testing.assert_allclose(spreads[..., 0], expected, rtol=1e-10)
    assert spreads[0, :, 1].tolist() == [12, 4, 20, 12]


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """200 data sets of 60 images of unit variance in 16 x 2 numbers: the true variance is 2."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        values = rng.standard_normal((1, 60, 16, 2))
        groups = [gather(part) for part in np.array_split(values, 30, axis=1)]
        interval = bootstrap(
            distances(groups), lambda sums: {"v": ratio(sums[..., 0], sums[..., 1])}, draws=300
        )["v"]
        assert interval.low[0] <= interval.value[0] <= interval.high[0]
        inside += bool(interval.low[0] <= 2 <= interval.high[0])
    assert 160 <= inside <= 199


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    def peak(n_images: int) -> int:
        images = samples(n_images, (16, 16))
        rng = np.random.default_rng(0)
        values = [rng.standard_normal((2, 2, 256, 32), np.float32) for _ in images]
        run = write(tmp_path / str(n_images), images, values, part_size=16)
        assert len(run.ids) == n_images
        del values
        measure(run, "key", 0)  # opens what is opened once
        gc.collect()
        tracemalloc.start()
        measure(run, "key", 0)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    few, many = peak(64), peak(256)
    sums = moments.GROUPS * 2 * 256 * 32 * 8
    assert sums < few < 4 * sums
    part = (
        16 * 2 * 256 * 32 * 4
    )  # one layer of a part; how many are read ahead at a moment is up to the threads
    assert many < few + 3 * part
