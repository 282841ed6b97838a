"""Prefix conditions of planted runs, scored by hand: blocks, halves, what is kept and printed."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.experiments.probe.run import probe
from kvtool.reporting.emit import emit
from kvtool.result import Result
from kvtool.stats.bootstrap import bootstrap
from kvtool.store import Run, Store
from kvtool.tasks.base import Array, halves
from kvtool.types import Sample
from tests.experiments.prefix.rows import block, mean_score, row_of
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented
from tests.support.prefixes import TASK, WITHOUT, write_conditions
from tests.support.tasks.semantic_correspondence import GRID, WH, planted
from tests.support.units import PLANTED, noise, sample, write_run


def by_hand(pair: Pair, match: Callable[[tuple[float, float]], tuple[float, float]]) -> float:
    """A pair's PCK at 0.1 where a keypoint is found at found(keypoint)."""
    x0, y0, x1, y1 = pair.trg_box_xyxy_px
    matches = np.array([match(point) for point in pair.trg_kps_px])
    away = np.linalg.norm(matches - np.array(pair.trg_kps_px), axis=1)
    return float(np.mean(away <= 0.1 * max(x1 - x0, y1 - y0)))


def planted_pck(root: Path) -> tuple[Array, Array]:
    """PCK of each pair where the right token is found, and where it is for cat0 alone: else the
    first token.
    """
    span = sample("x", 0, WH, GRID).base()
    pairs = SPair71k(root, "test").pairs()
    right = np.array(
        [by_hand(pair, lambda point: span.centre_px(*span.cell_at(*point))) for pair in pairs]
    )
    first = np.array([by_hand(pair, lambda _: span.centre_px(0, 0)) for pair in pairs])
    return right, np.where([pair.category == "cat0" for pair in pairs], right, first)


@pytest.mark.slow
def test_a_planted_gain_is_found_and_measured_as_by_hand(result: Result, root: Path) -> None:
    right, half = planted_pck(root)
    assert right.mean() > half.mean() + 0.1
    best, none = row_of(result, "correct", "best"), row_of(result, "none", "best")
    assert (block(best), block(none)) == (PLANTED, WITHOUT)
    assert none["pck_image"] == pytest.approx(half.mean())
    assert best["pck_image"] == pytest.approx(right.mean())
    assert best["difference"] == pytest.approx(right.mean() - half.mean())
    assert best["difference_low"] > 0
    fixed = row_of(result, "correct", "fixed")
    assert block(fixed) == WITHOUT
    assert fixed["difference"] == pytest.approx(fixed["pck_image"] - half.mean())
    assert fixed["difference_high"] < 0
    assert [row["condition"] for row in result.rows[::2]] == [
        "none",
        "correct",
        "random",
        "incorrect",
    ]
    assert {row["run"] for row in result.rows} == {"none", "correct", "random", "incorrect"}
    assert (result.n, result.n_skipped, result.best) == (60, 0, None)


@pytest.mark.slow
def test_a_prefix_that_changes_nothing_makes_no_difference(result: Result) -> None:
    for condition in ("none", "incorrect"):
        for choice in ("best", "fixed"):
            row = row_of(result, condition, choice)
            assert block(row) == WITHOUT
            assert (row["difference"], row["difference_low"], row["difference_high"]) == (0, 0, 0)


@pytest.mark.slow
def test_none_is_the_probe_of_the_run_without_prefix(store: Store, result: Result) -> None:
    for comparison, select in (
        (result, "max"),
        (kvtool.prefix(store, TASK, select="split"), "split"),
    ):
        best = probe(store.run("none"), TASK, kinds=["value"], select=select).best
        assert best is not None
        for choice in ("best", "fixed"):
            row = row_of(comparison, "none", choice)
            assert {name: row[name] for name in row.keys() & best.keys()} == {
                name: value for name, value in best.items() if name in row
            }
            assert {
                "pck_image",
                "pck_image_low",
                "pck_point_high",
                "n",
                "layer",
            } <= row.keys() & best.keys()


@pytest.mark.slow
def test_split_chooses_and_scores_on_halves(store: Store, root: Path) -> None:
    result = kvtool.prefix(store, TASK, select="split")
    right, half = planted_pck(root)
    _, second = halves(60, 0, images_of_pairs(root))
    best = row_of(result, "correct", "best")
    assert (block(best), best["n"]) == (PLANTED, len(second))
    assert best["pck_image"] == pytest.approx(right[second].mean())
    assert best["difference"] == pytest.approx((right - half)[second].mean())
    assert row_of(result, "none", "best")["pck_image"] == pytest.approx(half[second].mean())


def images_of_pairs(root: Path) -> Array:
    """(pair, 2) the images that each pair joins."""
    return np.array([(pair.src_id, pair.trg_id) for pair in SPair71k(root, "test").pairs()])


@pytest.mark.slow
def test_the_paired_interval_is_of_the_differences(result: Result, root: Path) -> None:
    """Pair by pair the difference of both, resampled by image within categories."""
    right, half = planted_pck(root)
    categories = np.array([pair.category for pair in SPair71k(root, "test").pairs()])
    differences = bootstrap(
        np.stack([right - half, np.ones(60)], axis=-1),
        mean_score,
        strata=categories,
        clusters=images_of_pairs(root),
    )["score"]
    row = row_of(result, "correct", "best")
    assert row["difference_low"] == pytest.approx(float(differences.low))
    assert row["difference_high"] == pytest.approx(float(differences.high))


@pytest.mark.slow
def test_only_some_images_of_a_run(store: Store) -> None:
    run = store.run("correct")
    ids = [image for image in run.ids if image.startswith("cat1/")]
    full, part = probe(run, TASK, kinds=["value"]), probe(run, TASK, kinds=["value"], ids=ids)
    assert (full.n, part.n, part.n_skipped) == (60, 30, 30)
    category_rows = [row for row in full.rows if row.get("category") == "cat1"]
    totals = [row for row in part.rows if "alpha" not in row]
    assert [row["pck_image"] for row in totals] == pytest.approx(
        [row["pck_image"] for row in category_rows]
    )
    assert "ids_hash" in part.config
    assert "ids_hash" not in full.config
    assert probe(run, TASK, kinds=["value"]) == full


@pytest.mark.slow
def test_the_result_is_kept_and_documented(
    store: Store, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_documented(result.to_json())
    assert [item["n_texts"] for item in result.items] == [1, 2, 1, 2]
    assert result.items[1] == {
        "condition": "correct",
        "text": "cat0",
        "n_texts": 2,
        "run": "correct",
    }
    fresh = kvtool.prefix(store, TASK, fresh=True)
    assert fresh.to_json() == result.to_json()
    monkeypatch.setattr(Run, "stream", None)
    assert kvtool.prefix(store, TASK).to_json() == result.to_json()
    with pytest.raises(TypeError):
        kvtool.prefix(store, TASK, fresh=True)


@pytest.mark.slow
def test_other_layers_kinds_and_conditions(store: Store) -> None:
    result = kvtool.prefix(store.run("none"), TASK, conditions=["correct"], layers=[0, 5])
    assert [row["condition"] for row in result.rows] == ["none", "none", "correct", "correct"]
    assert block(row_of(result, "correct", "best")) == PLANTED
    assert block(row_of(result, "none", "best"))[0] in (0, 5)
    only = kvtool.prefix(store, TASK, conditions=["correct"], layers=[0])
    assert [note for note in only.config["notes"] if "layer 0" in note]
    assert not [note for note in kvtool.prefix(store, TASK).config["notes"] if "layer 0" in note]


@pytest.mark.slow
def test_a_table_fits_eighty_columns(result: Result) -> None:
    longest = replace(
        result,
        rows=[row | {"condition": "text:" + "long " * 30} for row in result.rows[:2]] + result.rows,
    )
    for answer in (
        result,
        longest,
        replace(result, config=result.config | {"kinds": ["key", "value"]}),
    ):
        out = io.StringIO()
        emit(answer, "table", out)
        assert max(map(len, out.getvalue().splitlines())) <= 80
    out = io.StringIO()
    emit(result, "table", out)
    text = out.getvalue()
    correct = row_of(result, "correct", "best")
    assert f"{100 * correct['pck_image']:.1f}" in text
    assert f"{100 * correct['difference']:+.1f}" in text
    assert (
        f"[{100 * correct['difference_low']:.1f}, {100 * correct['difference_high']:.1f}]" in text
    )
    words = " ".join(text.split())
    assert "fixed block: value, layer 2, head 0, the best of none" in words
    assert 'correct: "cat0" and another text' in text
    assert "-0.0" not in text


@pytest.mark.slow
def test_blocks_are_chosen_on_the_images_of_all_conditions(root: Path, tmp_path: Path) -> None:
    """Without prefix one block finds cat0's keypoints and another cat1's; a file has texts for one
    category alone.
    """
    dataset = SPair71k(root, "test")
    code, background = planted(dataset.pairs()), noise(0)
    prefixes = {WITHOUT: "cat0/", (4, 1): "cat1/"}

    def fill(s: Sample, layer: int, head: int) -> Array:
        good = s.id.startswith(prefixes.get((layer, head), "-"))
        return code(s, *PLANTED) if good else background(s, layer, head)

    store = write_conditions(tmp_path / "s.kv", root, {"none": fill})
    best = probe(store.run("none"), TASK, kinds=["value"]).best
    assert best is not None
    second = next(
        candidate for candidate in prefixes if candidate != (best["layer"], best["kv_head"])
    )
    samples = [
        replace(s, prefix="it")
        for s in store.run("none").samples
        if s.id.startswith(prefixes[second])
    ]
    lines = [f"{s.id},it" for s in samples]
    (tmp_path / "texts.csv").write_text("\n".join(["image,text", *lines]))
    name = f"file:{tmp_path}/texts.csv"
    write_run(
        tmp_path / "s.kv", "spair71k", "test", root, samples, fill, name="mine", prefix="file"
    )
    result = kvtool.prefix(store, TASK, conditions=[], prefix=[name])
    assert [block(row) for row in result.rows] == [second] * 4
    assert (result.n, result.n_skipped, result.config["images"]) == (30, 6, 6)
    assert [row["difference"] for row in result.rows] == [0, 0, 0, 0]


@pytest.mark.slow
def test_a_damaged_result_is_computed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert_computed_again(store, lambda: kvtool.prefix(store, TASK), monkeypatch, caplog)
