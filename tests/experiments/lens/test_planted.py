"""Planted truth: concepts that stand in the stream after one layer are found there, and nowhere
else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.experiments.lens import measures
from kvtool.result import Result, Row
from kvtool.store import Run
from tests.support.concepts import CONCEPTS, cats_and_dogs, planted_run, reading_model
from tests.support.fields import assert_documented

PLANTED = 1
N_IMAGES = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("planted")
    data = cats_and_dogs(root / "coco", N_IMAGES)
    return planted_run(root / "study.kv", reading_model(root / "model"), data, PLANTED)


@pytest.fixture(scope="module")
def result(run: Run) -> Result:
    return kvtool.lens(run, tokens="all")


def row(result: Result, measure: str, layer: int) -> Row:
    (match,) = [r for r in result.rows if (r["measure"], r["layer"]) == (measure, layer)]
    return match


@pytest.mark.slow
def test_both_measures_find_the_planted_layer(result: Result) -> None:
    for measure in ("lens", "directions"):
        planted = row(result, measure, PLANTED)
        assert planted["auroc"] > 0.99
        assert planted["auroc_low"] > 0.98
        assert (planted["n_images"], planted["n_concepts"]) == (N_IMAGES, len(CONCEPTS))
        for layer in (0, 2):
            noise = row(result, measure, layer)
            assert noise["auroc_low"] < 0.5 < noise["auroc_high"]
            assert abs(noise["permuted"] - 0.5) < 0.15
            assert noise["chance"] == 0.5
    assert result.best is not None
    assert result.best["layer"] == PLANTED


@pytest.mark.slow
def test_every_field_is_documented(run: Run, result: Result) -> None:
    assert_documented(result.to_json())
    assert_documented(kvtool.lens(run, image=run.ids[0]).to_json())


@pytest.mark.slow
def test_sentences_hold_their_words_in_every_layer(result: Result) -> None:
    for layer in range(3):
        assert row(result, "lens", layer)["text"] > 0.99
        assert row(result, "directions", layer)["text"] > 0.99


@pytest.mark.slow
def test_ranks_of_planted_words(result: Result) -> None:
    planted = row(result, "lens", PLANTED)
    assert planted["rank"] == 1
    assert planted["top_10"] == 1
    assert planted["rank_background"] > 3
    noise = row(result, "lens", 0)
    assert 5 < noise["rank"] < result.config["n_words"] - 5
    assert row(result, "directions", PLANTED)["rank"] is None


@pytest.mark.slow
def test_the_words_of_an_image_are_where_they_were_planted(run: Run, tmp_path: Path) -> None:
    image = run.ids[2]
    out = tmp_path / "words.png"
    words = kvtool.lens(run, image=image, out=out, layers=[PLANTED])
    rows, cols = run[image].grid
    read = np.full((rows, cols), "", object)
    for patch in words.rows:
        read[patch["row"], patch["col"]] = patch["word"]
        assert patch["words"][0] == patch["word"]
        assert 0 <= patch["probability"] <= 1
    assert set(read[:, 0]) == {"cat"}
    assert set(read[:, -1]) == {"dog"}
    assert out.read_bytes().startswith(b"\x89PNG")


def test_items_are_the_words_of_the_images_with_most_patches(result: Result, run: Run) -> None:
    images = list(dict.fromkeys(item["image"] for item in result.items))
    assert images == [run.ids[2], run.ids[5]]
    item = next(item for item in result.items if item["layer"] == PLANTED)
    rows, cols = item["grid"]
    assert len(item["words"]) == len(item["probabilities"]) == rows * cols
    assert item["words"][0] == "cat"
    assert item["words"][cols - 1] == "dog"


@pytest.mark.slow
def test_layers_one_by_one_give_what_all_together_give(
    run: Run, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "LAYER_BYTES", 1)
    one_by_one = kvtool.lens(run, tokens="all", fresh=True)
    assert one_by_one.rows == result.rows


@pytest.mark.slow
def test_a_kept_result_is_given_again(run: Run, result: Result) -> None:
    again = kvtool.lens(run, tokens="all", model="nothing-there")
    assert again.to_json() == result.to_json()
    seeded = kvtool.lens(run, tokens=4, seed=1)
    assert seeded.config["tokens"] == 4
    assert seeded.rows != result.rows


@pytest.mark.slow
def test_sentences_of_a_file(run: Run, result: Result, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat is in the image\nwhat is the dog\nno dog on the left\n a cat\n")
    by_file = kvtool.lens(run, tokens="all", text=text)
    assert by_file.config["sentences"] == 4
    assert row(by_file, "directions", PLANTED)["auroc"] > 0.99
    assert row(by_file, "lens", PLANTED)["auroc"] == row(result, "lens", PLANTED)["auroc"]
    text.write_text("the cat is in the image\n")
    single = kvtool.lens(run, tokens="all", text=text)
    assert {r["measure"] for r in single.rows} == {"lens"}
    assert "expected two concepts in text.txt" in single.config["notes"][0]
