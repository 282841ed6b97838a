"""Variance: equal to NumPy's however the sums are cut and merged; the planted keys; what cannot be
judged says so.
"""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvtool
from kvtool.errors import UsageError
from kvtool.experiments.variance.run import variance
from kvtool.features import moments, variances
from kvtool.features.grids import layouts_of
from kvtool.features.moments import Moments, distances, stream_groups
from kvtool.features.variances import measure
from kvtool.result import Result
from kvtool.stats.bootstrap import bootstrap, ratio
from kvtool.store import Run
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented
from tests.support.keys import Array, planted, samples, write

CONSTANT = [(layer, head) for layer in (0, 1, 2) for head in range(4)] + [(25, 3), (27, 0)]


def by_numpy(values: Array) -> Array:
    """(head,) variance of values (head, image, token, dim), in the words of the definition."""
    variances: Array = values.astype(np.float64).var(axis=1).sum(axis=-1).mean(axis=-1)
    return variances


def gather(values: Array) -> Moments:
    heads, _, tokens, dim = values.shape
    moments = Moments.zeros(heads, tokens, dim)
    moments.add(values)
    return moments


def column(result: Result, name: str = "variance") -> list[Any]:
    return [row[name] for row in result.rows]


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


def test_keys_before_and_after_the_rotary_embedding(
    tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    results = {}
    for keys in ("post-rope", "pre-rope"):
        dataset = f"folder:{pictures}"
        kvtool.extract(
            tmp_path / keys,
            model=str(tiny_model),
            dataset=dataset,
            limit=12,
            dtype="float32",
            keys=keys,
            kinds=("key",),
        )
        results[keys] = kvtool.variance(tmp_path / keys)
    run = {keys: kvtool.open(tmp_path / keys).run() for keys in results}
    assert not np.allclose(
        run["pre-rope"].read("key", 1, 0).values, run["post-rope"].read("key", 1, 0).values
    )
    np.testing.assert_allclose(column(results["pre-rope"]), column(results["post-rope"]), rtol=1e-5)
    assert min(column(results["pre-rope"])) > 0


def test_the_planted_constant_keys_are_found_exactly(tmp_path: Path) -> None:
    result = variance(planted(tmp_path / "s", constant=CONSTANT))
    assert len(CONSTANT) == 14
    assert len(result.rows) == 112
    assert {(row["layer"], row["kv_head"]) for row in result.rows if row["input_agnostic"]} == set(
        CONSTANT
    )
    assert all(
        row["input_agnostic"] is False
        for row in result.rows
        if (row["layer"], row["kv_head"]) not in CONSTANT
    )
    assert {row["variance"] for row in result.rows if row["input_agnostic"]} == {0.0}
    groups = {group["group"]: group for group in result.config["groups"]}
    assert [groups[name]["layers"] for name in groups] == [
        list(range(8)),
        list(range(8, 18)),
        list(range(18, 28)),
    ]
    assert [groups[name]["n_input_agnostic"] for name in groups] == [12, 0, 2]
    assert [groups[name]["n_keys"] for name in groups] == [32, 40, 40]
    assert result.config["distribution"]["bimodal"]
    assert sum(result.config["distribution"]["counts"]) == 112
    assert 0 < result.config["threshold"] < min(v for v in column(result) if v)
    assert_documented(result.to_json())


def test_one_mode_is_said_and_takes_no_cut(tmp_path: Path) -> None:
    run = planted(tmp_path / "s")
    result = variance(run)
    assert not result.config["distribution"]["bimodal"]
    assert result.config["threshold"] is None
    assert set(column(result, "input_agnostic")) == {None}
    assert [group["n_input_agnostic"] for group in result.config["groups"]] == [None] * 3
    assert "not bimodal" in result.config["notes"][0]
    middle = sorted(column(result))[56]
    fixed = variance(run, threshold=middle)
    assert column(fixed, "input_agnostic").count(True) == 56
    assert (fixed.config["threshold"], fixed.config["threshold_from"]) == (middle, "given")
    assert not fixed.config["notes"]


def test_results_are_kept_and_a_threshold_needs_no_new_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planted(tmp_path / "s", constant=CONSTANT)
    first = variance(run)
    with monkeypatch.context() as patch:
        patch.setattr(variances, "measure", lambda *_: pytest.fail("a new pass"))
        assert variance(run) == first
        assert column(variance(run, threshold=1e9), "input_agnostic") == [True] * 112
        with pytest.raises(pytest.fail.Exception):
            variance(run, seed=1)
        with pytest.raises(pytest.fail.Exception):
            variance(run, fresh=True)
    assert variance(run, fresh=True) == first


def test_other_kinds(tmp_path: Path) -> None:
    """Values are judged as keys are; what goes into the decoder is one block, of which there are no
    two modes.
    """
    rng = np.random.default_rng(0)
    run = write(
        tmp_path / "s", samples(6), rng.normal(size=(6, 3, 2, 12, 8)), kinds=("key", "value")
    )
    assert column(variance(run, kind="value")) == column(variance(run))
    narrow = write(
        tmp_path / "t",
        samples(6),
        rng.normal(size=(6, 1, 1, 12, 8)),
        kinds=("projected",),
        layers=(),
    )
    result = variance(narrow, kind="projected")
    (row,) = result.rows
    assert (row["kind"], row["layer"], row["kv_head"], row["input_agnostic"]) == (
        "projected",
        0,
        0,
        None,
    )
    assert "group" not in row
    assert_documented(result.to_json())


def test_intervals_are_from_the_groups_distances_to_the_mean_of_all() -> None:
    values = np.random.default_rng(2).normal(20, 1, (2, 12, 4, 3))
    parts = np.split(values, [3, 4, 9], axis=1)
    mean = values.mean(axis=1, keepdims=True)
    expected = np.stack([((part - mean) ** 2).sum(axis=(1, 2, 3)) for part in parts], axis=-1)
    spreads = distances([gather(part) for part in parts])
    np.testing.assert_allclose(spreads[..., 0], expected, rtol=1e-10)
    assert spreads[0, :, 1].tolist() == [12, 4, 20, 12]


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


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(6, 6, 2, 12, 8))
    values[2, 1, 0, 5, 3] = np.inf
    values[3, 2, 1, 0, 0] = np.nan
    result = variance(write(tmp_path / "s", samples(6), values), threshold=1.0)
    unknown = [row for row in result.rows if row["variance"] is None]
    assert [(row["layer"], row["kv_head"]) for row in unknown] == [(1, 0), (2, 1)]
    assert all(row["input_agnostic"] is None and row["variance_low"] is None for row in unknown)
    assert "2 of 12 variances" in result.config["notes"][0]
    assert sum(result.config["distribution"]["counts"]) == 10


def strangers(path: Path) -> Run:
    """Two images, each on a grid of its own."""
    images = [*samples(1), replace(samples(1, (4, 3))[0], index=1, id="b0")]
    return write(path, images, np.zeros((2, 2, 2, 12, 8)))


def shifted(path: Path) -> Run:
    images = samples(4)
    images[3] = replace(images[3], image_start=4)
    return write(path, images, np.zeros((4, 2, 2, 12, 8)))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda path: planted(path, 1), {}, "expected 2 images or more, found 1"),
        (strangers, {}, "image folder/image 0 has 3 x 4 tokens, image b0 4 x 3 tokens, and no two"),
        (shifted, {}, "starts at prompt position 1, image folder/image 3 at 4"),
        (planted, {"kind": "value"}, "has no value, only key"),
        (planted, {"threshold": -1}, "found -1"),
        (planted, {"threshold": float("nan")}, "found nan"),
        (
            planted,
            {"pca": ["folder/image 99"], "out": "x"},
            "no image 'folder/image 99' among the 12",
        ),
        (planted, {"pca": ["folder/image 1"]}, "-o DIR"),
        (planted, {"out": "x"}, "--pca ID"),
    ],
)
def test_bad_requests_are_one_line(
    tmp_path: Path, make: Any, options: dict[str, Any], message: str
) -> None:
    run = make(tmp_path / "s")
    with pytest.raises(UsageError) as caught:
        variance(run, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("variance: ")


def test_prefixes_of_other_lengths_do_not_matter_before_the_rotary_embedding(
    tmp_path: Path,
) -> None:
    images = samples(4)
    images[3] = replace(images[3], image_start=4)
    values = np.random.default_rng(0).normal(size=(4, 2, 2, 12, 8))
    run = write(tmp_path / "s", images, values, keys="pre-rope")
    np.testing.assert_allclose(
        column(variance(run))[:2], by_numpy(values[:, 0].transpose(1, 0, 2, 3)), rtol=1e-6
    )


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


def test_a_damaged_result_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = planted(tmp_path / "s", constant=CONSTANT)
    assert_computed_again(run.store, lambda: variance(run), monkeypatch, caplog)
