"""kvtool correlate of planted stores and answers, worked out by hand."""

from __future__ import annotations

import io
from math import atanh, sqrt, tanh
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import kvtool
import kvtool.models
from kvtool.datasets.cvbench import CvBench
from kvtool.reporting.emit import emit
from kvtool.result import Result, Row
from kvtool.stats.proportions import wilson
from tests.experiments.correlate.planted import coefficients_of, expected_score
from tests.support.correlations import (
    RIGHT,
    SOURCES,
    WRONG,
    answered,
    correlated,
    models_of,
    right_for,
    segmented,
)
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented

Array = np.ndarray[Any, Any]
TASK = ["semantic-segmentation"]


def assert_coefficients(coefficients: dict[str, Row], x: Array, y: Array) -> None:
    """Pearson's and Spearman's over the five planted models are those of the formulas."""
    pearson = ((x - x.mean()) * (y - y.mean())).sum() / sqrt(
        ((x - x.mean()) ** 2).sum() * ((y - y.mean()) ** 2).sum()
    )
    assert coefficients["pearson"]["value"] == pytest.approx(pearson)
    low, high = stats.pearsonr(x, y).confidence_interval()
    assert (
        coefficients["pearson"]["value_low"],
        coefficients["pearson"]["value_high"],
    ) == pytest.approx((low, high))
    # Ranks of segmentation 5 4 3 1 2, of accuracy 5 4 2 3 1: squared differences 0 0 1 4 1.
    rho = 1 - 6 * 6 / (5 * 24)
    half = 1.959963984540054 * sqrt((1 + rho**2 / 2) / 2)
    assert coefficients["spearman"]["value"] == pytest.approx(rho)
    assert coefficients["spearman"]["value_low"] == pytest.approx(tanh(atanh(rho) - half))
    assert coefficients["spearman"]["value_high"] == pytest.approx(tanh(atanh(rho) + half))
    assert {row["n"] for row in coefficients.values()} == {5}


@pytest.mark.slow
def test_by_hand(stores: list[Path]) -> None:
    result = correlated(stores)
    assert (result.command, result.metric, result.n, result.best, result.n_skipped) == (
        "correlate",
        "accuracy",
        5,
        None,
        0,
    )
    rows = models_of(result)
    x, y = np.array([expected_score(wrong) for wrong in WRONG]), np.array(RIGHT) / 24
    assert [row["segmentation"] for row in rows] == pytest.approx(x)
    assert [row["semantic-segmentation"] for row in rows] == pytest.approx(x)
    assert [row["accuracy"] for row in rows] == pytest.approx(y)
    # Two models with 20 and with 10 right: 8 of ADE20K, 4 of COCO, 8 of 12 of Omni3D; 8 of ADE20K
    # and 2 of 4 of COCO.
    assert rows[0]["cvbench"] == pytest.approx((1 + 8 / 12) / 2)
    assert rows[2]["cvbench"] == pytest.approx((8 / 8 + 2 / 4) / 2 / 2)
    assert [row["cvbench_accuracy"] for row in rows] == pytest.approx(y)
    assert {(row["n"], row["n_other"]) for row in rows} == {(24, 1)}
    assert all("blink" not in row for row in rows)
    assert_coefficients(coefficients_of(result), x, y)
    assert result.config["notes"] == []
    assert_documented(result.to_json())
    parts = {(item["model"], item["subset"]): item for item in result.items}
    assert parts["planted-2", "Relation"]["accuracy"] == 0.5
    assert parts["planted-2", "Relation"]["n"] == 4


@pytest.mark.slow
def test_intervals_of_a_model(stores: list[Path]) -> None:
    """Segmentation by one task has that task's interval; accuracy that of draws within each
    collection, one by one.
    """
    models = models_of(correlated(stores))
    row = models[3]
    (run,) = [name for name in row["runs"] if "imagenet" in name]
    best = kvtool.probe(kvtool.open(stores[1]).run(run), TASK[0]).best
    assert best is not None
    ends = (row["segmentation_low"], row["segmentation_high"])
    assert ends == pytest.approx((best["miou_fgbg_low"], best["miou_fgbg_high"]))
    rng = np.random.default_rng(1)
    # Of the fourth model all questions of a collection are alike; of the second they are not.
    correct = np.arange(24) < RIGHT[1]
    parts = np.split(correct, np.cumsum([n for *_, n in SOURCES])[:-1])
    samples = [sum(rng.choice(part, len(part)).sum() for part in parts) / 24 for _ in range(4000)]
    low, high = np.quantile(samples, [0.025, 0.975])
    ends = (models[1]["accuracy_low"], models[1]["accuracy_high"])
    assert ends == pytest.approx((low, high), abs=1 / 24)
    _, share = wilson(0, 24)
    ends = (row["accuracy_low"], row["accuracy_high"])
    assert ends == pytest.approx((0.5 * (1 - share), 0.5 * (1 + share)))
    # All answers are (A): who always says so has all of them right.
    assert {(model["chance_kind"], model["chance"]) for model in models} == {("always (A)", 1.0)}


@pytest.mark.slow
def test_asked_again_it_is_read(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = correlated(stores)
    monkeypatch.setattr("kvtool.experiments.correlate.measures.evaluate", None)
    assert correlated(stores).to_json() == first.to_json()
    with pytest.raises(TypeError):
        correlated(stores, fresh=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "rows", "message"), [(1, 0, "found 1"), (2, 0, "found 2"), (3, 2, "no interval")]
)
def test_few_models(stores: list[Path], count: int, rows: int, message: str) -> None:
    result = correlated(stores, models=[f"planted-{number}" for number in range(count)])
    assert (len(models_of(result)), len(coefficients_of(result)), result.n) == (count, rows, count)
    assert any(message in note for note in result.config["notes"])
    assert all(
        row["value_low"] is None and row["value"] > 0.9 for row in coefficients_of(result).values()
    )


@pytest.mark.slow
def test_scores_that_are_all_the_same_have_no_coefficient(tmp_path: Path, data: Path) -> None:
    for number in range(4):
        segmented(tmp_path / "s.kv", data, f"planted-{number}", number)
        answered(tmp_path / "s.kv", CvBench(data / "cvbench"), f"planted-{number}", right_for(6))
    result = correlated(tmp_path / "s.kv")
    assert [row["value"] for row in coefficients_of(result).values()] == [None, None]
    assert result.config["notes"] == ["no coefficient: accuracy is the same for all 4 models"]
    assert "pearson: not defined, N = 4 models" in table(result)


def table(result: Result) -> str:
    out = io.StringIO()
    emit(result, "table", out)
    return out.getvalue()


@pytest.mark.slow
def test_table(stores: list[Path]) -> None:
    result = correlated(stores)
    text = table(result)
    assert max(map(len, text.splitlines())) <= 80
    row = models_of(result)[2]
    for words in (
        "planted-2",
        f"{100 * row['segmentation']:.1f} [",
        "41.7 [",
        "37.5",
        "pearson: 0.",
        "N = 5 models",
        "24 questions",
    ):
        assert words in text


@pytest.mark.slow
def test_a_damaged_result_is_computed_again(
    stores: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind = '"command": "correlate"'  # answers are planted: no model gives them again
    assert_computed_again(stores[0], lambda: correlated(stores), monkeypatch, caplog, kind)
