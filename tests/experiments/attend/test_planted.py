"""Planted truth: a head whose keys make it look at the object has AUROC 1 and is found, and so is a
token that all texts look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.result import Result, Row
from kvtool.store import Run
from tests.support import tiny
from tests.support.attention import (
    FINDER,
    QUESTION,
    SINK,
    SINK_KEY,
    looking_run,
    shows_cat,
)
from tests.support.concepts import HALVES, cats_and_dogs
from tests.support.fields import assert_documented

N_IMAGES = 12
WHOLE_CELLS = (0, 0, 30, 64)
"""The left half of pictures, as far as whole cells of the grid lie in it."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("looking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(HALVES, "left", WHOLE_CELLS)
        data = cats_and_dogs(root / "coco", N_IMAGES)
    return looking_run(root / "study.kv", tiny.llava_onevision(root / "model"), data)


@pytest.fixture(scope="module")
def result(run: Run) -> Result:
    return kvtool.attend(run, question=QUESTION)


@pytest.fixture(scope="module")
def sinks(run: Run) -> Result:
    return kvtool.attend(run, sinks=True, question=QUESTION)


def head(result: Result, layer: int, q_head: int) -> Row:
    (match,) = [row for row in result.rows if (row["layer"], row["q_head"]) == (layer, q_head)]
    return match


@pytest.mark.slow
def test_the_head_that_looks_at_the_object_is_found(result: Result, run: Run) -> None:
    finder = head(result, *FINDER)
    assert finder["auroc"] == 1
    assert finder["pointing"] == 1
    assert finder["kv_head"] == FINDER[1] // 2
    assert finder["n"] == N_IMAGES
    # Pictures without a cat have no object.
    assert finder["n_masks"] == sum(map(shows_cat, run.ids))
    assert result.metric == "auroc"
    assert result.best is not None
    assert (result.best["layer"], result.best["q_head"]) == FINDER
    best_head = result.config["chosen_head"]
    assert (best_head["layer"], best_head["q_head"]) == FINDER
    assert (best_head["chosen_auroc"], best_head["auroc"]) == (1, 1)
    # The other query head of the group reads the same keys.
    group = (finder["layer"], finder["kv_head"])
    strangers = [row for row in result.rows if (row["layer"], row["kv_head"]) != group]
    assert max(row["auroc"] for row in strangers) < 0.95


@pytest.mark.slow
def test_what_knows_where_objects_lie_is_told(result: Result) -> None:
    # All cats lie on the left: the cat of another picture does as well as its own.
    finder = head(result, *FINDER)
    assert finder["auroc_permuted"] == 1
    assert finder["pointing_chance"] == pytest.approx(0.5, abs=0.1)
    assert {row["chance"] for row in result.rows} == {0.5}


@pytest.mark.slow
def test_the_finder_is_a_localization_head(result: Result) -> None:
    # Half of the grid is one piece, and so has no spatial entropy.
    localization = result.config["localization"]
    heads = [(entry["layer"], entry["q_head"]) for entry in localization["heads"]]
    assert FINDER in heads
    assert localization["n_chosen"] + localization["n_scored"] == N_IMAGES
    segmentation = localization["segmentation"]
    assert segmentation["values"] is None
    assert segmentation["n"] == localization["n_masks"]


@pytest.mark.slow
def test_the_finder_alone_cuts_the_object_out(run: Run) -> None:
    single = kvtool.attend(run, question=QUESTION, layers=[FINDER[0]], localization=1)
    localization = single.config["localization"]
    assert {row["layer"] for row in single.rows} == {FINDER[0]}
    (best_head,) = localization["heads"]
    assert best_head["q_head"] == FINDER[1]
    assert best_head["frequency"] == 1
    assert localization["auroc"] == 1
    segmentation = localization["segmentation"]
    assert segmentation["miou_fgbg"] > 0.9
    assert segmentation["chance"] < 0.7


@pytest.mark.slow
def test_the_sink_is_found(sinks: Result) -> None:
    assert sinks.best is not None
    assert (sinks.best["layer"], sinks.best["kv_head"]) == SINK_KEY
    (row,) = [r for r in sinks.rows if (r["layer"], r["kv_head"]) == SINK_KEY]
    assert row["sink_share"] > 0.99
    assert row["mass"] > 0.99
    assert row["overlap"] == 1
    assert row["overlap_chance"] == pytest.approx(1 / 16)
    assert row["border"] in (0, 1)
    assert row["value_norm_ratio"] < 0.2
    assert row["value_dependence"] == pytest.approx(0, abs=1e-6)
    assert row["value_dependence_others"] > 0.1
    # Keys that nothing was planted in have sinks of their own in each picture.
    assert max(r["overlap"] for r in sinks.rows if r["layer"] == 2) < 0.9


@pytest.mark.slow
def test_border_cells_are_told(sinks: Result, run: Run) -> None:
    rows, cols = run.samples[0].base().grid
    row, col = divmod(SINK, cols)
    is_border = row in (0, rows - 1) or col in (0, cols - 1)
    (key,) = [r for r in sinks.rows if (r["layer"], r["kv_head"]) == SINK_KEY]
    assert key["border"] == is_border
    inner = (rows - 2) * (cols - 2)
    assert key["border_chance"] == pytest.approx(1 - inner / (rows * cols))


@pytest.mark.slow
def test_every_field_is_documented(result: Result, sinks: Result) -> None:
    assert_documented(result.to_json())
    assert_documented(sinks.to_json())


@pytest.mark.slow
def test_a_kept_result_is_given_again(run: Run, result: Result, sinks: Result) -> None:
    settings: list[tuple[Result, dict[str, Any]]] = [(result, {}), (sinks, {"sinks": True})]
    for stored, options in settings:
        again = kvtool.attend(run, question=QUESTION, model="nothing-there", **options)
        assert again.to_json() == stored.to_json()


@pytest.mark.slow
def test_maps_are_saved_and_drawn(run: Run, tmp_path: Path) -> None:
    image = next(name for name in run.ids if shows_cat(name))
    options: dict[str, Any] = {"question": QUESTION, "image": image, "save": tmp_path / "maps"}
    kvtool.attend(run, out=tmp_path / "pictures", **options)
    saved = np.load(tmp_path / "maps" / f"{image}.npz")
    sample = run[image].sample
    assert saved["attention"].shape == (3, 4, sample.n_tokens)
    assert saved["attention"].dtype == np.float32
    assert tuple(saved["grid"]) == sample.base().grid
    on_grid = saved["attention"][FINDER][saved["cells"]].reshape(saved["grid"])
    left = on_grid[:, : on_grid.shape[1] // 2]
    assert left.sum() > 0.99 * on_grid.sum()
    assert (tmp_path / "pictures" / f"{image}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_each_token_of_the_question_has_a_picture(run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"question": QUESTION, "image": run.ids[1], "from_": "question"}
    kvtool.attend(run, out=tmp_path, each_token=True, **options)
    names = sorted(path.stem.rpartition("-")[2] for path in tmp_path.iterdir())
    assert names == ["cat", "is", "the", "there"]


@pytest.mark.slow
def test_names_of_pictures_sort_as_the_tokens_stand(run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"question": f"{QUESTION} " * 3, "image": run.ids[1]}
    kvtool.attend(run, out=tmp_path, each_token=True, from_="question", **options)
    names = sorted(path.stem.removeprefix(f"{run.ids[1]}-") for path in tmp_path.iterdir())
    assert len(names) == 12
    words = [name.partition("-")[2] for name in names]
    assert words == words[:4] * 3
    assert len(set(words)) == 4
