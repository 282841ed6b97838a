"""Variance over pictures of several sizes: within each grid, pooled over the grids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.experiments.variance.run import variance
from kvtool.features import moments
from kvtool.features.grids import layouts_of
from kvtool.features.variances import measure
from kvtool.store import Run
from kvtool.types import Sample
from tests.support.fields import assert_documented
from tests.support.keys import Array, samples, write

GRIDS = [(3, 4), (4, 3), (3, 4), (2, 5), (3, 4), (4, 3), (5, 5)]


def mixed(count: int) -> list[Sample]:
    """Images on grids in turn; the last grid has one image alone."""
    grids = [GRIDS[i % 6] for i in range(count - 1)] + [GRIDS[6]]
    return [replace(samples(1, grid)[0], index=i, id=f"image {i}") for i, grid in enumerate(grids)]


def mixed_run(path: Path, count: int, **options: Any) -> tuple[Run, list[Array]]:
    """Keys of unit noise around a mean of each grid's own, far from the others'."""
    rng = np.random.default_rng(0)
    images = mixed(count)
    means = {grid: rng.normal(0, 50, (2, 3, grid[0] * grid[1], 8)) for grid in set(GRIDS)}
    values = [
        (means[image.base().grid] + rng.normal(size=(2, 3, image.n_tokens, 8))).astype(np.float32)
        for image in images
    ]
    return write(path, images, values, **options), values


def by_definition(run: Run, values: list[Array], layer: int, head: int) -> float:
    """Squared distances from the mean of an image's own grid, over the degrees of freedom."""
    total, freedom = 0.0, 0
    for grid in dict.fromkeys(GRIDS):
        images = [i for i, sample in enumerate(run.samples) if sample.base().grid == grid]
        if len(images) > 1:
            stack = np.stack([values[i][layer, head].astype(np.float64) for i in images])
            total += float(((stack - stack.mean(0)) ** 2).sum())
            freedom += (len(images) - 1) * grid[0] * grid[1]
    return total / freedom


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("part_size", [4, 50])
def test_pooled_variance_is_that_of_the_definition(
    tmp_path: Path, dtype: str, part_size: int
) -> None:
    run, values = mixed_run(tmp_path / "s", 40, dtype=dtype, part_size=part_size)
    if dtype == "bfloat16":
        values = [run.read_image(image)["key"] for image in run.ids]
    for row in measure(run, "key", 0):
        expected = by_definition(run, values, row["layer"], row["kv_head"])
        assert row["variance"] == pytest.approx(expected, rel=1e-10)
        assert row["variance_low"] <= row["variance"] <= row["variance_high"]
        assert row["n"] == 39


def test_the_result_says_how_grids_were_pooled(tmp_path: Path) -> None:
    run, _ = mixed_run(tmp_path / "s", 40)
    result = variance(run, threshold=1.0)
    assert result.n == 39
    assert [(entry["grid"], entry["images"]) for entry in result.config["grids"]] == [
        ("3 x 4 tokens", 20),
        ("4 x 3 tokens", 13),
        ("2 x 5 tokens", 6),
    ]
    assert result.config["notes"][0] == (
        "39 images stand on 3 grids: variances are those over images of one grid, pooled over the "
        "grids; left out, since no other image has their grid: 1"
    )
    # Unit noise in 8 dims, whatever the distance between the grids' means.
    assert all(abs(row["variance"] - 8) < 1 for row in result.rows)
    assert_documented(result.to_json())


def test_few_images_a_grid_are_not_too_constant(tmp_path: Path) -> None:
    """Twenty grids of two images each: with the number of images as divisor it would be half."""
    rng = np.random.default_rng(1)
    images = [replace(samples(1, (2, 2 + i // 2))[0], index=i, id=f"image {i}") for i in range(40)]
    values = [rng.normal(size=(1, 1, image.n_tokens, 8)).astype(np.float32) for image in images]
    (row,) = measure(write(tmp_path / "s", images, values), "key", 0)
    assert row["variance"] == pytest.approx(8, rel=0.05)
    assert row["variance_low"] < 8 < row["variance_high"]


def test_groups_of_all_layouts_stay_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "GROUPS", 6)
    run, _ = mixed_run(tmp_path / "s", 60)
    layouts = layouts_of(run, "key", run.samples)
    for _, groups in moments.stream_groups(run, "key", layouts):
        assert 3 <= sum(map(len, groups)) <= 6 + 3
        assert [sum(group.n for group in layout_groups) for layout_groups in groups] == [30, 19, 10]


def test_a_grid_that_starts_elsewhere_is_another(tmp_path: Path) -> None:
    """Keys after the rotary embedding are rotated by the token's position."""
    images = samples(5, start=2)
    images[2] = replace(images[2], spans=(replace(images[2].spans[0], start=1),))
    values = np.random.default_rng(0).normal(size=(5, 2, 2, 14, 8))
    result = variance(write(tmp_path / "s", images, values), threshold=1.0)
    assert result.n == 4
    assert "4 images of one grid, 3 x 4 tokens from token 2; left out" in result.config["notes"][0]
    tokens = images[0].base().token_indices()
    same_grid = values[[0, 1, 3, 4]].astype(np.float32)[:, 0, 0][:, tokens].astype(np.float64)
    assert result.rows[0]["variance"] == pytest.approx(same_grid.var(0).sum(-1).mean())
