"""kvtool correlate: planted stores and answers worked out by hand, what is left out, and a chain of
tiny models.
"""

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
from kvtool.datasets.blink import Blink
from kvtool.datasets.cvbench import CvBench
from kvtool.errors import DatasetError, KvtoolError, ModelError, UsageError
from kvtool.reporting.emit import emit
from kvtool.result import Result, Row
from kvtool.store import Run
from tests.support import datasets as builders
from tests.support import tiny
from tests.support.correlations import (
    RIGHT,
    SOURCES,
    WRONG,
    answered,
    correlated,
    models_of,
    right_for,
    segmented,
    write_cvbench,
)
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented

TASK = ["semantic-segmentation"]


def expected_score(n_wrong: int) -> float:
    """Of 12 images with 11 counted foreground and 36 background patches."""
    return (132 / (132 + 2 * n_wrong) + (432 - 2 * n_wrong) / 432) / 2


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[Path]:
    """Two stores of two models, a third one of one whose runs are one in each of them."""
    root = tmp_path_factory.mktemp("stores")
    paths = [root / "a.kv", root / "b.kv"]
    for number, (wrong, right) in enumerate(zip(WRONG, RIGHT, strict=True)):
        segmented(paths[number % 2], data, f"planted-{number}", wrong)
        store = paths[1 if number == 4 else number % 2]
        answered(store, CvBench(data / "cvbench"), f"planted-{number}", right_for(right))
    return paths


def coefficients_of(result: Result) -> dict[str, Row]:
    return {row["coefficient"]: row for row in result.rows if "coefficient" in row}


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
    coefficients = coefficients_of(result)
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
    assert result.config["notes"] == []
    assert_documented(result.to_json())
    parts = {(item["model"], item["subset"]): item for item in result.items}
    assert parts["planted-2", "Relation"]["accuracy"] == 0.5
    assert parts["planted-2", "Relation"]["n"] == 4


def test_intervals_of_a_model(stores: list[Path]) -> None:
    """Segmentation by one task has that task's interval; accuracy that of draws within each
    collection, one by one.
    """
    row = models_of(correlated(stores))[3]
    (run,) = [name for name in row["runs"] if "imagenet" in name]
    best = kvtool.probe(kvtool.open(stores[1]).run(run), TASK[0]).best
    assert best is not None
    ends = (row["segmentation_low"], row["segmentation_high"])
    assert ends == pytest.approx((best["miou_fgbg_low"], best["miou_fgbg_high"]))
    rng = np.random.default_rng(1)
    correct = np.arange(24) < RIGHT[3]
    parts = np.split(correct, np.cumsum([n for *_, n in SOURCES])[:-1])
    samples = [sum(rng.choice(part, len(part)).sum() for part in parts) / 24 for _ in range(4000)]
    low, high = np.quantile(samples, [0.025, 0.975])
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((low, high), abs=1 / 24)


def test_asked_again_it_is_read(stores: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = correlated(stores)
    monkeypatch.setattr("kvtool.experiments.correlate.measures.evaluate", None)
    assert correlated(stores).to_json() == first.to_json()
    with pytest.raises(TypeError):
        correlated(stores, fresh=True)


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
def test_only_what_every_model_holds(tmp_path: Path, data: Path) -> None:
    """One model lacks two of the images and one of the 3D questions, one has BLINK in two runs."""
    path, cvbench, blink = tmp_path / "s.kv", CvBench(data / "cvbench"), Blink(data / "blink")
    counting = [ref.id for ref in Blink(data / "blink/Counting").images()]
    for number in range(3):
        model = f"planted-{number}"
        segmented(path, data, model, number, images=10 if number == 1 else 12)
        exclusions = {"3D/11/image"} if number == 2 else set()
        answered(path, cvbench, model, right_for(10 + 2 * number), exclusions=exclusions)
        halves = [counting] if number else [counting[:2], counting[2:]]
        for half in halves:
            remainder = {ref.id for ref in blink.images()} - set(half)
            answered(
                path,
                blink,
                model,
                lambda _: "third",
                name=f"blink-{number}-{len(half)}",
                exclusions=remainder,
            )
    result = correlated(path, benchmarks=["cvbench", "blink"])
    assert result.config["notes"][:2] == [
        "semantic-segmentation: 2 images that some models lack are left out of all",
        "1 questions about images that some models lack are left out of all",
    ]
    rows = models_of(result)
    assert {row["n"] for row in rows} == {23 + 5}
    assert [row["accuracy"] for row in rows] == pytest.approx(
        [(10 + 2 * number + 5) / 28 for number in range(3)]
    )
    assert {row["blink"] for row in rows} == {1.0}
    assert result.config["tasks"]["semantic-segmentation"] == {
        "data": "imagenet-s@validation",
        "images": 10,
    }
    assert len(rows[0]["runs"]) == 4
    limited = correlated(path, benchmarks=["cvbench", "blink"], limit=2)
    assert {row["n"] for row in models_of(limited)} == {2 * 4}


def test_models_that_lack_a_run_are_left_out(
    tmp_path: Path, data: Path, stores: list[Path]
) -> None:
    path, blink = tmp_path / "s.kv", Blink(data / "blink", "test")
    segmented(path, data, "no-questions", 1)
    answered(path, CvBench(data / "cvbench"), "no-values", right_for(3))
    segmented(path, data, "keys-missing", 1)
    answered(path, CvBench(data / "cvbench"), "keys-missing", right_for(3), kinds=("value",))
    assert correlated(stores).n_skipped == 0  # kept, and not given again
    result = correlated([*stores, path])
    assert (result.n, result.n_skipped) == (5, 3)
    assert sorted(line.split(": extract")[0] for line in result.skipped) == [
        "model keys-missing: cvbench: run keys_missing-cvbench-test-"
        f"{hash_of(path, 'keys_missing-cvbench')} holds value of 2 of 2 layers, and questions need "
        "whole caches",
        "model no-questions: cvbench: no run over it",
        "model no-values: semantic-segmentation: no values over imagenet-s@validation, which most "
        "models have",
    ]
    with pytest.raises(
        KvtoolError,
        match=r"found none: model .*: blink: no run over it: extract it with --kinds key",
    ):
        correlated(stores, benchmarks=["blink"])
    with pytest.raises(
        KvtoolError, match=r"found none: model .*: co-segmentation: no model has values over msrc"
    ):
        correlated(stores, tasks=["co-segmentation"])
    segmented(tmp_path / "t.kv", data, "hidden", 1)
    answered(tmp_path / "t.kv", blink, "hidden", right_for(3))
    with pytest.raises(
        KvtoolError,
        match=r"blink: the answers of run hidden.*, blink@test, are hidden: extract .* val",
    ):
        correlated(tmp_path / "t.kv", benchmarks=["blink"])


def test_the_run_with_most_images_and_no_prefix(tmp_path: Path, data: Path) -> None:
    path, cvbench = tmp_path / "s.kv", CvBench(data / "cvbench")
    segmented(path, data, "planted", 1, images=10)
    segmented(path, data, "planted", 4, images=4, name="a-small-one")
    segmented(path, data, "planted", 9, prefix="random")
    answered(path, cvbench, "planted", right_for(12), exclusions={"2D/0/image"})
    answered(path, cvbench, "planted", right_for(0), prefix="random")
    result = correlated(path)
    (row,) = models_of(result)
    assert result.config["tasks"]["semantic-segmentation"]["images"] == 10
    assert (row["n"], row["accuracy"]) == (23, pytest.approx(11 / 23))
    assert row["segmentation"] > expected_score(2)


def hash_of(store: Path, name: str) -> str:
    (digest,) = [
        run.rpartition("-")[2] for run in kvtool.open(store).runs() if run.startswith(name)
    ]
    return digest


def test_a_model_counts_once(tmp_path: Path, data: Path) -> None:
    path, names = tmp_path / "s.kv", list[str]()
    for dtype in ("bfloat16", "float32"):
        assert not names or correlated(path).n == 1
        names.append(segmented(path, data, "planted", 1, dtype=dtype).name)
        names.append(
            answered(path, CvBench(data / "cvbench"), "planted", right_for(3), dtype=dtype).name
        )
    with pytest.raises(
        UsageError,
        match=r"one set of runs of planted, found some in [a-z0-9]+, base view, and some in",
    ):
        correlated(path)
    assert correlated(path, runs=names[2:]).n == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["semantic-correspondence"]}, "expected tasks of foreground-segmentation"),
        ({"tasks": []}, "found none"),
        ({"benchmarks": ["pope"]}, "expected benchmarks of cvbench, blink; found pope"),
        (
            {"models": ["other"]},
            "no model other with a run of this; the stores have: planted-0, planted-1",
        ),
        ({"runs": ["other"]}, "no run other in the stores; they have: planted_0-"),
        ({"episodes": 3}, "none of semantic-segmentation takes episodes"),
        ({"select": "best"}, "expected select of max, split"),
        ({"limit": 0}, "limit: expected a whole number from 1 "),
    ],
)
def test_bad_requests(stores: list[Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        correlated(stores, **options)


def test_a_new_question_needs_the_model(stores: list[Path]) -> None:
    """All answers stored, no model is loaded; one more token asked for, it is."""
    with pytest.raises(ModelError, match="planted-0"):
        correlated(stores, max_new_tokens=17)


def test_an_answer_that_is_no_choice(tmp_path: Path, data: Path) -> None:
    root = write_cvbench(tmp_path / "cvbench")
    segmented(tmp_path / "s.kv", data, "planted", 1)
    answered(tmp_path / "s.kv", CvBench(root), "planted", right_for(3))
    rows = [
        {
            "idx": 0,
            "type": "2D",
            "task": "Count",
            "question": "?",
            "choices": ["1"],
            "answer": "(B)",
            "prompt": "?",
        }
    ]
    builders.parquet(
        root / "test_2d.parquet",
        [rows[0] | {"source": "COCO", "image": builders.cell(0)}],
        ["image"],
    )
    with pytest.raises(
        DatasetError,
        match=r"question 2D/0: expected an answer that names one of its 1 choices, found",
    ):
        correlated(tmp_path / "s.kv")


@pytest.mark.slow
def test_tiny_models_from_pictures_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two families end to end, with real weights: nothing is known beforehand of their scores."""
    builders.msrc7(tmp_path / "msrc")
    builders.refcoco(tmp_path / "refcoco")
    builders.cvbench(tmp_path / "cvbench")
    builders.blink(tmp_path / "blink")
    specs = [f"msrc:{tmp_path}/msrc", f"refcoco:{tmp_path}/refcoco", f"cvbench:{tmp_path}/cvbench"]
    specs.append(f"blink:{tmp_path}/blink/Counting@val")
    models = [tiny.llava_onevision(tmp_path / "one"), tiny.llava_next(tmp_path / "next")]
    for model in models:
        for spec in specs:
            kvtool.extract(
                tmp_path / "s.kv", model=str(model), dataset=spec, kinds=("key", "value")
            )
    tasks = ["co-segmentation", "referring-expression"]
    loaded, original = list[str](), kvtool.models.load_model

    def load(name: str, **options: Any) -> Any:
        loaded.append(name)
        return original(name, **options)

    monkeypatch.setattr(kvtool.models, "load_model", load)
    result = kvtool.correlate(tmp_path / "s.kv", tasks=tasks, max_new_tokens=2, restarts=1)
    assert sorted(loaded) == sorted(map(str, models))
    assert (result.n, result.n_skipped, len(coefficients_of(result))) == (2, 0, 0)
    for row in models_of(result):
        assert row["n"] == 3 + 5
        assert row["segmentation"] == pytest.approx((row[tasks[0]] + row[tasks[1]]) / 2)
        down = sqrt(sum((row[task] - row[f"{task}_low"]) ** 2 for task in tasks)) / 2
        up = sqrt(sum((row[f"{task}_high"] - row[task]) ** 2 for task in tasks)) / 2
        ends = (row["segmentation"] - down, row["segmentation"] + up)
        assert (row["segmentation_low"], row["segmentation_high"]) == pytest.approx(ends)
        results = [
            kvtool.probe(run_of(tmp_path / "s.kv", row, task), task)
            for task in ["referring-expression"]
        ]
        assert results[0].best is not None
        assert row[tasks[1]] == results[0].best[results[0].metric]
    models[0].rename(tmp_path / "moved")
    again = kvtool.correlate(
        tmp_path / "s.kv",
        tasks=tasks,
        max_new_tokens=1,
        restarts=1,
        model={str(models[0]): str(tmp_path / "moved")},
    )
    assert again.n == 2


def run_of(store: Path, row: Row, task: str) -> Run:
    data = {"referring-expression": "refcoco", "co-segmentation": "msrc"}[task]
    (name,) = [name for name in row["runs"] if f"-{data}-" in name]
    return kvtool.open(store).run(name)


def test_a_damaged_result_is_computed_again(
    stores: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind = '"command": "correlate"'  # answers are planted: no model gives them again
    assert_computed_again(stores[0], lambda: correlated(stores), monkeypatch, caplog, kind)
