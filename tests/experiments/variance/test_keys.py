"""Input-agnostic keys: the planted ones are found, and what cannot be judged says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import UsageError
from kvtool.experiments.variance.run import variance
from kvtool.features import variances
from kvtool.store import Run
from tests.experiments.variance.sums import by_numpy, column
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented
from tests.support.keys import planted, samples, write

CONSTANT = [(layer, head) for layer in (0, 1, 2) for head in range(4)] + [(25, 3), (27, 0)]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.sampled
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


@pytest.mark.slow
def test_a_damaged_result_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = planted(tmp_path / "s", constant=CONSTANT)
    assert_computed_again(run.store, lambda: variance(run), monkeypatch, caplog)
