"""Scores against answers worked out by hand or by the obvious loop, and what is left out or
missing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.records import estimates, side_by_side
from kvtool.errors import UsageError
from kvtool.experiments.score.bdd10k import given_class_units
from kvtool.metrics.segmentation import class_counts
from kvtool.result import Result, Row
from tests.support import datasets as builders
from tests.support.datasets import id_png, label_png, write_text
from tests.support.scenes import World


def first(result: Result) -> Row:
    return result.rows[0]


def by(result: Result, label: str) -> dict[str, Row]:
    return {row[label]: row for row in result.rows if label in row}


def lines(path: Path, *records: dict[str, Any]) -> Path:
    return write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def answer(text: str, label: str) -> dict[str, Any]:
    return {"answer": text, "label": label}


def test_unknown_benchmark_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'davis'"):
        kvtool.score("davi", data="x", results="y")


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("davis", "imagenet-s", "bdd10k")


@pytest.mark.slow
def test_the_truth_itself_is_perfect(scenes: Path) -> None:
    davis = kvtool.score("davis", data=scenes / "davis", results=scenes / "davis/Annotations/480p")
    assert {row["j_and_f"] for row in davis.rows} == {1.0}
    assert {row["j_recall"] for row in davis.rows} == {1.0}
    (base,) = (path.parent for path in (scenes / "imagenet-s").glob("**/validation-segmentation"))
    size = int(base.name.removeprefix("ImageNetS"))
    maps = base / "validation-segmentation"
    imagenet = kvtool.score("imagenet-s", data=scenes / "imagenet-s", results=maps, classes=size)
    assert first(imagenet)["miou_present"] == pytest.approx(1)
    truth = scenes / "bdd10k/labels/sem_seg/masks/val"
    bdd = kvtool.score("bdd10k", data=scenes / "bdd10k", results=truth)
    assert (first(bdd)["miou"], first(bdd)["miou_fgbg"]) == (1, 1)
    assert bdd.n == len(list(truth.glob("*.png")))


def davis_tree(tmp_path: Path) -> tuple[Path, Path]:
    """The hand-made data set, and predictions that are its annotations without the void."""
    data = builders.davis(tmp_path / "DAVIS")
    for path in (data / "Annotations/480p").glob("*/*.png"):
        labels = builders_labels(path)
        label_png(
            tmp_path / "results" / path.parent.name / path.name, np.where(labels == 255, 0, labels)
        )
    return data, tmp_path / "results"


def builders_labels(path: Path) -> np.ndarray[Any, Any]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_davis_leaves_out_what_cannot_be_scored_and_reads_no_ends(tmp_path: Path) -> None:
    data, results = davis_tree(tmp_path)
    for path in results.glob("*/*"):
        if path.stem in ("00000", "00003"):
            path.unlink()
    label_png(results / "gone/00002.png", np.eye(24, 32))
    shutil.rmtree(results / "nothing")
    result = kvtool.score("davis", data=data, results=results)
    assert list(by(result, "object")) == ["two_1", "two_2", "gone_1"]
    assert by(result, "object")["two_2"]["j_and_f"] == 1
    # Its object is nowhere in frames 1 and 2: right in one of them.
    assert (
        by(result, "object")["gone_1"]["j_mean"] == by(result, "object")["gone_1"]["f_mean"] == 0.5
    )
    assert first(result)["j_mean"] == pytest.approx(2.5 / 3)
    assert (result.n, result.n_skipped) == (3, 1)
    assert "nothing" in result.skipped[0]


def test_davis_counts_sequences_and_names_frames(tmp_path: Path) -> None:
    data, results = davis_tree(tmp_path)
    for number in (1, 2):
        (data / f"Annotations/480p/two/0000{number}.png").unlink()
    result = kvtool.score("davis", data=data, results=results)
    assert list(by(result, "object")) == ["gone_1"]
    # Two frames of one sequence, and the sequence that has no object.
    assert (len(result.skipped), result.n_skipped) == (3, 2)


def test_davis_a_prediction_without_an_object_scores_it_as_empty(tmp_path: Path) -> None:
    data, results = davis_tree(tmp_path)
    for frame in (1, 2):
        path = results / f"two/{frame:05d}.png"
        labels = builders_labels(path)
        label_png(path, np.where(labels == 2, 0, labels))
    rows = by(kvtool.score("davis", data=data, results=results), "object")
    assert (rows["two_1"]["j_and_f"], rows["two_2"]["j_and_f"]) == (1, 0)


def test_imagenet_s_counts_a_missing_map_as_a_miss(tmp_path: Path) -> None:
    data = builders.imagenet_s(tmp_path / "data")
    results = shutil.copytree(data / "ImageNetS50/validation-segmentation", tmp_path / "results")
    row = first(kvtool.score("imagenet-s", data=data, results=results, classes=50))
    assert row["miou"] == pytest.approx(1)
    wnid = sorted(path.name for path in results.iterdir())[3]
    shutil.rmtree(results / wnid)
    result = kvtool.score("imagenet-s", data=data, results=results, classes=50)
    rows = by(result, "category")
    assert first(result)["n_missing"] == len(result.skipped) == 1
    assert wnid in result.skipped[0]
    assert (rows[wnid]["iou"], rows[wnid]["n"], rows[wnid]["class_id"]) == (0, 1, 4)
    assert next(iter(rows)) == "other"
    ious = [row["iou"] for name, row in rows.items() if name not in (wnid, "other")]
    last = [rows["other"]["iou"], rows[list(rows)[-1]]["iou"]]
    assert ious[:-1] == [1.0] * 48
    assert all(iou < 1 for iou in last)
    assert first(result)["miou"] == pytest.approx((48 + sum(last)) / 51)


def test_imagenet_s_ids_above_the_classes_belong_to_none(tmp_path: Path) -> None:
    data = builders.imagenet_s(tmp_path / "data")
    results = shutil.copytree(data / "ImageNetS50/validation-segmentation", tmp_path / "results")
    path = next(results.glob("*/*.png"))
    id_png(path, np.full((24, 32), 1000))
    strange = kvtool.score("imagenet-s", data=data, results=results, classes=50)
    path.unlink()
    absent = kvtool.score("imagenet-s", data=data, results=results, classes=50)
    assert [row.get("iou") for row in strange.rows] == [row.get("iou") for row in absent.rows]
    assert (first(strange)["n_missing"], first(absent)["n_missing"]) == (0, 1)


def test_foreground_and_background_of_each_class_are_the_loop() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 4, 255], (6, 9, 11))
    predictions = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 8, truth.shape))
    counts = np.stack([class_counts(s, t, 5, 255) for s, t in zip(predictions, truth, strict=True)])
    slow = np.zeros((6, 4))
    for image in range(6):
        valid = truth[image] != 255
        for class_id in set(truth[image][valid]):
            p, g = predictions[image][valid] == class_id, truth[image][valid] == class_id
            slow[image] += [(~p & ~g).sum(), (p & g).sum(), (~p | ~g).sum(), (p | g).sum()]
    np.testing.assert_array_equal(given_class_units(counts), slow)


def test_bdd_of_a_plain_folder_with_its_own_names(tmp_path: Path) -> None:
    for name, value in (("a", 3), ("b", 255)):
        label_png(tmp_path / f"gt/{name}.png", np.full((4, 6), 3))
        label_png(tmp_path / f"pred/{name}.png", np.full((4, 6), value))
    write_text(tmp_path / "gt/classes.txt", "\n".join(f"c{i}" for i in range(19)))
    result = kvtool.score("bdd10k", data=tmp_path / "gt", results=tmp_path / "pred")
    assert first(result)["miou"] == 0.5
    assert by(result, "category")["c3"]["iou"] == 0.5
    assert (by(result, "category")["c3"]["iou_low"], by(result, "category")["c3"]["iou_high"]) == (
        0,
        1,
    )
    # Each pixel is of class 3, so there is no background to be right about.
    assert first(result)["miou_fgbg"] == pytest.approx(0.25)


def test_spair_counts_and_leaves_out(tmp_path: Path) -> None:
    box = {"trg_bndbox": [0, 0, 100, 40]}
    path = lines(
        tmp_path / "a.jsonl",
        {
            "category": "cat",
            **box,
            "trg_kps": [[10, 10], [50, 20]],
            "prd_kps": [[20, 10], [50, 30.5]],
        },
        {"category": "dog", **box, "trg_kps": [[0, 0]], "prd_kps": [[3, 4]]},
        {"category": "dog", **box, "trg_kps": [], "prd_kps": []},
    )
    result = kvtool.score("spair", answers=path)
    assert (result.n, result.n_skipped, result.skipped) == (2, 1, [f"{path}:3: no keypoint"])
    rows = {(row.get("alpha"), row.get("category")): row for row in result.rows}
    assert (rows[None, None]["pck_image"], rows[None, None]["pck_point"]) == (
        0.75,
        pytest.approx(2 / 3),
    )
    assert [rows[alpha, None]["n_correct"] for alpha in (0.05, 0.1, 0.15)] == [1, 2, 3]
    assert (rows[0.05, "cat"]["pck_image"], rows[0.05, "dog"]["pck_image"]) == (0, 1)
    assert (rows[0.1, "cat"]["n_keypoints"], rows[0.1, "cat"]["n"]) == (2, 1)
    assert rows[0.1, "cat"]["pck_image_low"] is None


def test_pope_without_a_yes_and_two_files(tmp_path: Path) -> None:
    never = lines(tmp_path / "x/a.json", answer("No.", "yes"), answer("no, it is not", "no"))
    half = lines(tmp_path / "y/a.json", *[answer("Yes", "yes")] * 3, answer("Yes", "no"))
    result = kvtool.score("pope", answers=[never, half])
    files = by(result, "file")
    assert list(files) == [str(never), str(half)]
    assert [files[str(never)][name] for name in ("f1", "precision", "accuracy", "yes_ratio")] == [
        0,
        0,
        0.5,
        0,
    ]
    assert files[str(half)]["f1"] == pytest.approx(6 / 7)
    assert first(result)["macro_f1"] == pytest.approx(3 / 7)
    assert first(result)["f1"] == pytest.approx(6 / 8)
    assert (first(result)["n"], files[str(half)]["n"]) == (6, 4)
    row = first(kvtool.score("pope", answers=half))
    assert row["f1"] == row["macro_f1"] == pytest.approx(6 / 7)


def test_pope_breaks_inside_an_answer_are_no_lines(tmp_path: Path) -> None:
    text = json.dumps(answer("Yes\u2028it\x85is", "yes"), ensure_ascii=False)
    result = kvtool.score(
        "pope", answers=write_text(tmp_path / "a.json", f"\ufeff{text}\r\n\r\n{text}")
    )
    assert first(result)["n"] == 2


def test_mme_mean_of_the_papers_four(tmp_path: Path) -> None:
    right = "{0}\tIs it?\tYes\tYes\n{0}\tIs it not?\tNo\tNo, not at all\n"
    half = "{0}\tIs it?\tYes\tYes\n{0}\tIs it not?\tNo\t\n"
    for subset, texts in (
        ("count", (right, right)),
        ("color", (right, half)),
        ("existence", (half, half)),
        ("position", (half, right)),
        ("OCR", (half,)),
    ):
        write_text(
            tmp_path / f"{subset}.txt",
            "".join(text.format(i) for i, text in enumerate(texts)) + "\n\n",
        )
    result = kvtool.score("mme", answers=tmp_path)
    subsets = by(result, "subset")
    expected = {"count": 200, "color": 125, "existence": 50, "position": 125, "OCR": 50}
    assert {name: row["score"] for name, row in subsets.items()} == expected
    assert (first(result)["mme*"], first(result)["score"], first(result)["total"]) == (
        125,
        110,
        550,
    )
    fields = ("acc", "acc_plus", "n", "n_other")
    assert [subsets["color"][name] for name in fields] == [75, 50, 2, 1]
    assert (first(result)["n"], first(result)["n_other"], result.n) == (9, 5, 9)
    assert subsets["OCR"]["score_low"] is None


def test_groups_are_drawn_apart() -> None:
    groups = [np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 1.0]] * 3)]
    units, group = side_by_side(groups)
    assert units.sum(axis=0).tolist() == [1, 2, 3, 3]
    assert group.tolist() == [0, 0, 1, 1, 1]
    intervals = estimates(
        units,
        lambda sums: {"n": sums[..., [1, 3]], "x": sums[..., 0]},
        strata=group,
        top={"x": 4.0},
    )
    assert intervals["n"].low.tolist() == intervals["n"].high.tolist() == [2, 3]
    assert [float(end) for end in intervals["x"][1:]] == [0, 2]


def test_one_unit_has_no_interval() -> None:
    units, group = side_by_side([np.ones((1, 1)), np.ones((1, 1))])
    for strata in (None, group):
        intervals = estimates(units, lambda sums: {"x": sums.sum(axis=-1)}, strata=strata)
        assert intervals["x"].value == 2
        assert np.isnan(intervals["x"].low) == (strata is not None)
    assert np.isnan(estimates(units[:1], lambda sums: {"x": sums[..., 0]})["x"].high)


def test_progress_names_what_is_done(tmp_path: Path) -> None:
    data, results = davis_tree(tmp_path)
    steps: list[tuple[object, ...]] = []
    kvtool.score("davis", data=data, results=results, progress=lambda *step: steps.append(step))
    assert steps == [(1, "two", 2), (1, "gone", 2)]
