"""Bytes before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kvtool.errors import SpaceError
from kvtool.store import estimate, float32_to_bits
from tests.support.runs import commit, config, image_arrays, new_run, ragged, sample


def test_sample_bytes_are_those_of_the_arrays() -> None:
    run = config()
    for image in (sample(0), ragged(1), ragged(6)):
        expected = sum(values.nbytes for values in image_arrays(run, image).values())
        assert estimate.sample_bytes(image, run.model, run) == expected


def test_a_run_of_llava_onevision_7b() -> None:
    """42 MB an image: 28 layers x 4 heads x 729 tokens x 128 dims x 2 bytes, keys and values."""
    from kvtool.types import Geometry, ModelInfo

    geometry = Geometry(28, 28, 4, 128, 3584, 26, 1152)
    model = ModelInfo("m", "r", "f", geometry, "bfloat16", "sdpa")
    run = config(model=model, kinds=("key", "value"), layers=tuple(range(28)))
    images = [sample(index, n_tokens=729, n_prefix=0) for index in range(1000)]
    assert estimate.run_bytes(images, model, run) == 1000 * 28 * 4 * 729 * 128 * 2 * 2
    assert estimate.run_bytes([], model, run, n_texts=10) == 10 * 28 * 4 * 128 * 2


def test_without_compression_the_estimate_is_what_lies_on_the_disk(tmp_path: Path) -> None:
    run = new_run(tmp_path, codec="none")
    images = [sample(index, n_tokens=500, n_vision_tokens=300, n_prefix=100) for index in range(4)]
    commit(run, images)
    raw = estimate.run_bytes(images, run.config.model, run.config)
    assert raw <= run.info()["bytes"] <= raw * 1.01


def test_expected_bytes_by_codec() -> None:
    assert estimate.expected_bytes(1000, "none") == 1000
    assert 700 < estimate.expected_bytes(1000, "lz4") < 900
    assert (
        estimate.expected_bytes(1000, "lz4")
        < estimate.expected_bytes(1000, "lz4", "float32")
        < 1000
    )


def test_expected_bytes_hold_for_smooth_values(tmp_path: Path) -> None:
    """A walk along the tokens with a scale for each channel; its noise fills the mantissa."""
    rng = np.random.default_rng(0)
    image = sample(0, n_tokens=729, n_prefix=0)
    run = new_run(tmp_path, kinds=("key",))
    values = rng.standard_normal((2, 2, 729, 8)).cumsum(axis=2) / 20 + rng.standard_normal(
        (2, 2, 729, 8)
    )
    scaled = (values * np.exp(rng.normal(0, 0.5, 8))).astype(np.float32)
    run.commit_part("0000000-0000001", [image], {"key": float32_to_bits(scaled)})
    raw = estimate.run_bytes([image], run.config.model, run.config)
    assert (
        0.8 * estimate.expected_bytes(raw, "lz4")
        < run.info()["bytes"]
        < 1.1 * estimate.expected_bytes(raw, "lz4")
    )


def test_free_bytes_of_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    assert estimate.free_bytes(tmp_path / "new" / "store.kv") == pytest.approx(
        shutil.disk_usage(tmp_path).free, rel=0.1
    )


def test_too_little_space_says_both_figures_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "free_bytes", lambda _: 1_500_000_000)
    estimate.check_space(tmp_path, 1_400_000_000)
    with pytest.raises(SpaceError) as caught:
        estimate.check_space(tmp_path, 2_600_000_000_000)
    assert "expected 2.6 TB" in str(caught.value)
    assert "found 1.5 GB free" in str(caught.value)
    assert "--limit" in str(caught.value)
