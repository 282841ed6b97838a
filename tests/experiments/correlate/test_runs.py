"""The runs that kvtool correlate reads, what it leaves out, and requests that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
import kvtool.models
from kvtool.datasets.blink import Blink
from kvtool.datasets.cvbench import CvBench
from kvtool.errors import DatasetError, KvtoolError, ModelError, UsageError
from tests.experiments.correlate.planted import expected_score
from tests.support import datasets as builders
from tests.support.correlations import (
    answered,
    correlated,
    models_of,
    right_for,
    segmented,
    write_cvbench,
)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.slow
def test_bad_requests(stores: list[Path], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        correlated(stores, **options)


@pytest.mark.slow
def test_a_new_question_needs_the_model(stores: list[Path]) -> None:
    """All answers stored, no model is loaded; one more token asked for, it is."""
    with pytest.raises(ModelError, match="planted-0"):
        correlated(stores, max_new_tokens=17)


@pytest.mark.slow
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
