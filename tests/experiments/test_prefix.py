"""Prefix conditions compared: planted runs scored by hand, paired intervals, and the whole chain
with a tiny model.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.demo.layouts import write_scenes
from kvtool.engine import local
from kvtool.errors import DatasetError, KvtoolError, ModelError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.reporting.emit import emit
from kvtool.result import Result, Row
from kvtool.stats.bootstrap import bootstrap
from kvtool.store import Run, Store
from kvtool.tasks.base import Array, Table, halves
from kvtool.tasks.differences import difference
from kvtool.types import Kind, Sample
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented
from tests.support.prefixes import TASK, WITHOUT, half_planted, write_conditions
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import PLANTED, noise, sample, write_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spair(tmp_path_factory.mktemp("spair"))


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    pairs = SPair71k(root, "test").pairs()
    fills = {
        "none": half_planted(pairs),
        "correct": planted(pairs),
        "random": noise(3),
        "incorrect": half_planted(pairs),
    }
    return write_conditions(tmp_path_factory.mktemp("planted") / "s.kv", root, fills)


@pytest.fixture(scope="module")
def result(store: Store) -> Result:
    return kvtool.prefix(store, TASK)


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


def row_of(result: Result, condition: str, choice: str) -> Row:
    (row,) = [
        row for row in result.rows if (row["condition"], row["choice"]) == (condition, choice)
    ]
    return row


def block(row: Row) -> tuple[int, int]:
    assert row["kind"] == "value"
    return row["layer"], row["kv_head"]


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


def test_a_prefix_that_changes_nothing_makes_no_difference(result: Result) -> None:
    for condition in ("none", "incorrect"):
        for choice in ("best", "fixed"):
            row = row_of(result, condition, choice)
            assert block(row) == WITHOUT
            assert (row["difference"], row["difference_low"], row["difference_high"]) == (0, 0, 0)


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


def table(values: Array, strata: Array | None = None) -> Table:
    """A block whose units score `values`: (found, total) twice, as pck_units has them."""
    return Table({}, np.stack([values, np.ones_like(values)], axis=-1)[None], mean_score, strata)


def mean_score(sums: Array) -> dict[str, Array]:
    return {"score": sums[..., 0] / sums[..., 1]}


def test_a_paired_interval_is_narrow_where_units_move_together() -> None:
    rng = np.random.default_rng(0)
    without = rng.uniform(size=400)
    ours = without + 0.02 + rng.normal(scale=0.01, size=400)
    row = difference(table(ours), table(without), "score", 0)
    single = bootstrap(table(ours).units, mean_score)["score"]
    assert row["difference"] == pytest.approx((ours - without).mean())
    assert 0 < row["difference_low"] < 0.02 < row["difference_high"]
    assert row["difference_high"] - row["difference_low"] < (single.high - single.low)[0] / 10


def test_strata_are_kept_and_one_unit_has_no_interval() -> None:
    without, ours = np.array([0.0, 0.5, 1.0]), np.array([0.9, 0.2, 0.4])
    row = difference(table(ours, np.arange(3)), table(without, np.arange(3)), "score", 0)
    assert (
        row["difference_low"]
        == pytest.approx(row["difference"])
        == pytest.approx(row["difference_high"])
    )
    interval = difference(table(ours[:1]), table(without[:1]), "score", 0)
    assert interval == {"difference": 0.9, "difference_low": None, "difference_high": None}


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


def test_other_layers_kinds_and_conditions(store: Store) -> None:
    result = kvtool.prefix(store.run("none"), TASK, conditions=["correct"], layers=[0, 5])
    assert [row["condition"] for row in result.rows] == ["none", "none", "correct", "correct"]
    assert block(row_of(result, "correct", "best")) == PLANTED
    assert block(row_of(result, "none", "best"))[0] in (0, 5)
    only = kvtool.prefix(store, TASK, conditions=["correct"], layers=[0])
    assert [note for note in only.config["notes"] if "layer 0" in note]
    assert not [note for note in kvtool.prefix(store, TASK).config["notes"] if "layer 0" in note]


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
    assert "fixed block: value, layer 2, kv_head 0, the best of none" in text
    assert 'correct: "cat0" and another text' in text
    assert "-0.0" not in text


def test_requests_that_cannot_be_served(store: Store) -> None:
    with pytest.raises(
        UsageError, match=r"one of the tasks .*referring-expression.*; found 'co-segmentation'"
    ):
        kvtool.prefix(store, "co-segmentation")
    ask = partial(kvtool.prefix, store, TASK)
    with pytest.raises(
        UsageError, match="correct, random, incorrect, which spair71k offers, found 'right'"
    ):
        ask(conditions=["right"])
    with pytest.raises(UsageError, match="expected another one than none"):
        ask(conditions=["none"])
    with pytest.raises(UsageError, match="expected a text after the colon"):
        ask(prefix=["text: "])
    with pytest.raises(UsageError, match="expected the path of a CSV file"):
        ask(prefix=["file:"])
    with pytest.raises(UsageError, match="or file:CSV, found 'correct'"):
        ask(prefix=["correct"])
    with pytest.raises(
        UsageError, match="expected some of value, found projected; a prefix reaches the decoder"
    ):
        kvtool.prefix(store, "referring-expression", kinds=["projected"])
    with pytest.raises(UsageError, match="expected max or split"):
        ask(select="best")
    with pytest.raises(
        UsageError,
        match="option 'cutoff' is of semantic-segmentation and referring-expression alone",
    ):
        ask(cutoff="otsu")


def test_requests_that_the_runs_cannot_serve(store: Store, root: Path, tmp_path: Path) -> None:
    ask = partial(kvtool.prefix, store, TASK)
    with pytest.raises(
        UsageError, match="run correct: expected the run without prefix, found 'correct'"
    ):
        ask(run="correct")
    with pytest.raises(UsageError, match="which cannot serve referring-expression"):
        kvtool.prefix(store, "referring-expression", run="none")
    with pytest.raises(
        UsageError,
        match="over imagenet-s or bdd10k or own, found runs: correct, incorrect, none, random; ",
    ):
        kvtool.prefix(store, "semantic-segmentation")
    with pytest.raises(
        UsageError, match="expected a run without prefix that holds key over spair71k"
    ):
        ask(kinds=["key"])
    with pytest.raises(
        ModelError,
        match=r"model 'planted': .*if run none's model moved, give its place with --model",
    ):
        ask(prefix=["text:a cat"])
    shutil.copytree(root, tmp_path / "changed")
    lines = (root / "Layout/large/test.txt").read_text().splitlines()
    (tmp_path / "changed/Layout/large/test.txt").write_text("\n".join(lines[:30]) + "\n")
    with pytest.raises(
        DatasetError, match="expected the images that run none holds, found 6 images gone"
    ):
        ask(data=tmp_path / "changed")


def test_requests_that_a_new_store_cannot_serve(root: Path, tmp_path: Path) -> None:
    empty = kvtool.store.open_store(tmp_path / "empty.kv", create=True)
    with pytest.raises(
        UsageError, match="found runs: none; give --model and --dataset spair71k:PATH to extract it"
    ):
        kvtool.prefix(empty, TASK)
    origin: dict[str, Any] = {"model": "demo", "dataset": f"spair71k:{root}"}
    with pytest.raises(
        UsageError,
        match="expected a data set that serves referring-expression, found one that serves",
    ):
        kvtool.prefix(empty, "referring-expression", **origin)
    with pytest.raises(UsageError, match="some of none, correct, random, incorrect"):
        kvtool.prefix(empty, TASK, conditions=["right"], **origin)
    assert empty.runs() == []


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


def test_several_runs_without_prefix_are_listed(tmp_path: Path, root: Path) -> None:
    store = write_conditions(tmp_path / "s.kv", root, {"none": noise(0)})
    samples = store.run("none").samples
    write_run(
        tmp_path / "s.kv",
        "spair71k",
        "test",
        root,
        samples,
        noise(1),
        name="other",
        model="another",
    )
    with pytest.raises(
        UsageError, match=r"expected one run .* or a name \(--run\), found runs: none, other"
    ):
        kvtool.prefix(store, TASK)


# The whole chain, with a model.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, only=["spair71k", "refcoco", "bdd10k"])
    return folder


def test_a_prefix_changes_values_behind_the_first_layer(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    spec = f"spair71k:{scenes}/spair71k"
    settings: dict[str, Any] = {"dtype": "float32", "keys": "pre-rope", "limit": 8}
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, run="base", **settings)
    result = kvtool.prefix(tmp_path / "s.kv", TASK, conditions=["random"], kinds=["key", "value"])
    base, run = (kvtool.open(tmp_path / "s.kv").run(name) for name in ("base", "base+random"))
    assert run.config.kinds == ("key", "value")
    assert run.config.layers == base.config.layers == (0, 1, 2)
    assert run.ids == base.ids
    assert len(run.ids) == 8
    kinds: tuple[Kind, ...] = ("key", "value")
    for kind in kinds:
        for layer in range(3):
            with_text, without = (source.read(kind, layer, 1).values for source in (run, base))
            if layer == 0:
                np.testing.assert_allclose(with_text, without, rtol=1e-5, atol=1e-5)
            else:
                assert np.abs(with_text - without).max() > 1e-2
    assert result.items[1]["text"].startswith("A rustic wooden table")


@pytest.mark.slow
def test_missing_conditions_are_extracted_once(
    scenes: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, conditions = tmp_path / "s.kv", ["none", "correct", "random", "incorrect", "text:a cat"]
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"spair71k:{scenes}/spair71k"}
    kvtool.extract(store, **options, limit=8, layers=[0, 2], run="base")
    # A run of the user's own serves, whatever else it holds and whatever its name.
    kvtool.extract(store, **options, limit=9, prefix="random", run="mine")
    prefixes: list[str] = []
    extract = local.extract

    def counted(job: Any, **options: Any) -> Any:
        prefixes.append(job.prefix)
        return extract(job, **options)

    monkeypatch.setattr(local, "extract", counted)
    result = kvtool.prefix(store, TASK, prefix=["text:a cat"])
    assert [row["condition"] for row in result.rows[::2]] == conditions
    assert prefixes == [name for name in conditions if name not in ("none", "random")]
    assert result.n_skipped == 0
    assert {row["layer"] for row in result.rows} <= {0, 2}
    opened = kvtool.open(store)
    best = probe(opened.run("base"), TASK, kinds=["value"]).best
    assert best is not None
    none = row_of(result, "none", "best")
    assert [none[name] for name in (result.metric, "n")] == [best[result.metric], best["n"]]
    runs = {item["condition"]: opened.run(item["run"]) for item in result.items}
    assert runs["random"].name == "mine"
    assert runs["text:a cat"].name.startswith("base+text-")
    for name, run in runs.items():
        assert run.config.prefix == name
        assert set(run.ids) >= set(runs["none"].ids)
        if name not in ("none", "random"):
            assert (run.config.kinds, run.config.layers) == (("key", "value"), (0, 2))
    assert kvtool.prefix(store, TASK, prefix=["text:a cat"]).to_json() == result.to_json()
    # A longer run without prefix: the rest alone.
    kvtool.extract(store, **options, limit=9, layers=[0, 2], run="base")
    prefixes.clear()
    longer = kvtool.prefix(store, TASK, conditions=["correct"])
    assert prefixes == ["correct"]
    assert len(opened.run("base+correct").ids) == 9
    assert longer.config["images"] == 9


def test_images_without_a_text_are_left_out_of_every_condition(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(scenes / "refcoco", tmp_path / "refcoco")
    captions = tmp_path / "refcoco/images/mscoco/annotations/captions_train2014.json"
    record = json.loads(captions.read_text())
    kvtool.extract(
        tmp_path / "s.kv",
        model=str(tiny_model),
        dataset=f"refcoco:{tmp_path}/refcoco",
        limit=4,
        run="base",
    )
    store = kvtool.open(tmp_path / "s.kv")
    image = store.run("base").ids[1]
    number = int(image.rpartition("_")[2])
    record["annotations"] = [
        annotation for annotation in record["annotations"] if annotation["image_id"] != number
    ]
    captions.write_text(json.dumps(record))
    for _ in range(2):
        result = kvtool.prefix(store, "referring-expression", fresh=True)
        assert [item["condition"] for item in result.items] == ["none", "correct", "random"]
        assert result.n_skipped == 1
        assert result.skipped == [
            f"image {image}: expected a text for --prefix correct, found none for it"
        ]
        assert result.config["images"] == 3
        assert len({row["n"] for row in result.rows}) == 1
        assert "1 left out" in printed(result)
    full = probe(store.run("base"), "referring-expression", kinds=["value"])
    assert result.n < full.n
    ids = set(store.run("base").ids) - {image}
    best = probe(store.run("base"), "referring-expression", kinds=["value"], ids=ids).best
    assert best is not None
    assert row_of(result, "none", "best")["miou_fgbg"] == best["miou_fgbg"]
    captions.write_text(json.dumps({**record, "annotations": []}))
    with pytest.raises(KvtoolError, match="no COCO caption of image"):
        kvtool.prefix(store, "referring-expression")


def printed(result: Result) -> str:
    out = io.StringIO()
    emit(result, "table", out)
    return out.getvalue()


@pytest.mark.slow
def test_from_nothing_but_a_model_and_a_data_set(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "model": str(tiny_model),
        "dataset": f"bdd10k:{scenes}/bdd10k@val-night+highway",
    }
    result = kvtool.prefix(tmp_path / "new.kv", "semantic-segmentation", **options)
    (base,) = (run for run in kvtool.open(tmp_path / "new.kv").runs() if "+" not in run)
    assert result.config["run"] == base
    assert [item["condition"] for item in result.items] == [
        "none",
        "correct",
        "random",
        "incorrect",
    ]
    assert result.items[1]["text"] == "The image is taken at nighttime and it is from highway"
    assert (
        result.items[3]["text"] == "The image is taken at daytime and it is from city street view"
    )
    moved = tmp_path / "moved"
    shutil.copytree(tiny_model, moved)
    again = kvtool.prefix(
        tmp_path / "new.kv", "semantic-segmentation", prefix=["text:a cat"], model=str(moved)
    )
    assert [item["condition"] for item in again.items] == [
        "none",
        "correct",
        "random",
        "incorrect",
        "text:a cat",
    ]
    runs = kvtool.open(tmp_path / "new.kv").runs()
    assert (
        kvtool.prefix(tmp_path / "new.kv", "semantic-segmentation", prefix=["text:a cat"]) == again
    )
    assert kvtool.open(tmp_path / "new.kv").runs() == runs
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"note": "another"}))
    with pytest.raises(UsageError, match=f"by {moved}, found runs"):
        kvtool.prefix(tmp_path / "new.kv", "semantic-segmentation", model=str(moved))
    with pytest.raises(
        ModelError,
        match=r"expected revision files-.*, with which run .* was extracted, found files-",
    ):
        kvtool.prefix(
            tmp_path / "new.kv",
            "semantic-segmentation",
            run=base,
            model=str(moved),
            prefix=["text:a dog"],
        )


def test_a_street_of_neither_domain_has_no_sentence(
    scenes: Path, tiny_model: Path, tmp_path: Path
) -> None:
    kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=f"bdd10k:{scenes}/bdd10k@val", limit=1
    )
    with pytest.raises(UsageError, match=r"use @val-day\+street or @val-night\+highway"):
        kvtool.prefix(tmp_path / "s.kv", "semantic-segmentation")


def test_a_damaged_result_is_computed_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert_computed_again(store, lambda: kvtool.prefix(store, TASK), monkeypatch, caplog)
