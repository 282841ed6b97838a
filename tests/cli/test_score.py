"""`kvtool score` as a shell sees it: the golden cases through the command."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.datasets import write_text
from tests.support.fields import assert_documented
from tests.support.shell import Shell

GOLDEN = Path(__file__).parents[1] / "golden"


def whole(score: Shell, *arguments: object) -> dict[str, Any]:
    """The whole result, checked against its documentation."""
    code, out, _ = score(*arguments, "--format", "json")
    assert code == 0
    record: dict[str, Any] = json.loads(out)
    assert_documented(record)
    assert record["n_undefined"] == 0
    for row in record["rows"]:
        for name in [name for name in row if f"{name}_low" in row]:
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            assert (low is None) == (high is None)
            assert low is None or low <= high
    return record


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def unzipped(name: str, to: Path) -> Path:
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
        archive.extractall(to)
    return to


OFFICIAL_DAVIS = {
    "J-Mean": "j_mean", "J-Recall": "j_recall", "J-Decay": "j_decay",
    "F-Mean": "f_mean", "F-Recall": "f_recall", "F-Decay": "f_decay",
}  # fmt: skip


@pytest.mark.slow
def test_davis(score: Shell, tmp_path: Path) -> None:
    expected, root = golden("davis_tree_a"), unzipped("davis_tree_a", tmp_path)
    record = whole(score, "davis", "--data", root / "DAVIS", "--results", root / "results")
    first, *objects = record["rows"]
    for official, ours in (OFFICIAL_DAVIS | {"J&F-Mean": "j_and_f"}).items():
        assert first[ours] == pytest.approx(expected["global"][official], abs=1e-9)
    assert first["j_and_f_low"] < first["j_and_f"] < first["j_and_f_high"]
    assert [row["object"] for row in objects] == list(expected["per_object"])
    for row in objects:
        for official, ours in OFFICIAL_DAVIS.items():
            assert row[ours] == pytest.approx(
                expected["per_object"][row["object"]][official], abs=1e-9
            )
        assert row["n_frames"] == len(
            expected["per_frame"][row["object"].rpartition("_")[0]]["J"][0]
        )
        assert (row["n"], row["j_mean_low"]) == (1, None)
    assert record["n"] == first["n"] == len(objects)


def test_imagenet_s(score: Shell, tmp_path: Path) -> None:
    expected, root = golden("imagenets_a"), unzipped("imagenets_a", tmp_path)
    command = (
        "imagenet-s",
        "--data",
        root,
        "--results",
        root / "predict",
        "--classes",
        expected["num_classes"],
    )
    record = whole(score, *command)
    first, *classes = record["rows"]
    assert 100 * first["miou"] == pytest.approx(expected["mIoU"], abs=1e-3)
    assert first["n"] == record["n"] == 8
    assert first["n_missing"] == 0
    np.testing.assert_allclose(
        [100 * row["iou"] for row in classes], expected["IoU_per_class_0_to_C"], atol=1e-3
    )
    assert [row["class_id"] for row in classes if row["n"]] == expected["classes_in_gt"]
    present = [row["iou"] for row in classes if row["n"]]
    assert first["miou_present"] == pytest.approx(np.mean(present), abs=1e-9)


def test_bdd10k(score: Shell, tmp_path: Path) -> None:
    expected, root = golden("bdd_a"), unzipped("bdd_a", tmp_path)
    record = whole(score, "bdd10k", "--data", root / "gt", "--results", root / "pred")
    first, *classes = record["rows"]
    assert 100 * first["miou"] == pytest.approx(expected["mIoU"], abs=1e-6)
    assert {row["category"]: 100 * row["iou"] for row in classes} == pytest.approx(
        expected["IoU_per_class"], abs=1e-6
    )
    assert [row["class_id"] for row in classes if row["n"]] == expected["classes_in_gt"]


@pytest.mark.sampled
@pytest.mark.parametrize("case", ["pck_float_a", "pck_integer_a"])
@pytest.mark.parametrize("as_list", [False, True])
def test_spair(score: Shell, tmp_path: Path, case: str, as_list: bool) -> None:
    data = golden(case)
    text = (
        json.dumps(data["pairs"])
        if as_list
        else "".join(json.dumps(pair) + "\n" for pair in data["pairs"])
    )
    record = whole(score, "spair", "--answers", write_text(tmp_path / "answers.jsonl", text))
    first, *labelled = record["rows"]
    by_alpha = {row["alpha"]: row for row in labelled if "category" not in row}
    assert sorted(by_alpha) == data["alphas"]
    assert {**by_alpha[0.1], "alpha": 0} == {**first, "alpha": 0}
    for alpha, row in by_alpha.items():
        hpf, survey = (data["expected"][name][str(alpha)] for name in ("hpf", "visual_ai"))
        assert row["pck_image"] == pytest.approx(hpf["pck_image"], abs=1e-6)
        assert row["pck_point"] == pytest.approx(survey["pck_point"], abs=1e-6)
        assert (row["n_correct"], row["n_keypoints"]) == (
            sum(hpf["correct_per_pair"]),
            len(survey["correct"]),
        )
        categories = {r["category"]: r for r in labelled if r["alpha"] == alpha and "category" in r}
        for metric, official in (("pck_image", hpf), ("pck_point", survey)):
            scores = {name: r[metric] for name, r in categories.items()}
            assert scores == pytest.approx(official[f"{metric}_per_category"], abs=1e-6)
    for alpha, dift in data["expected"].get("dift", {}).items():
        assert by_alpha[float(alpha)]["pck_image"] == pytest.approx(dift["pck_image"], abs=1e-6)
        assert by_alpha[float(alpha)]["pck_point"] == pytest.approx(dift["pck_point"], abs=1e-6)


def test_pope(score: Shell, tmp_path: Path) -> None:
    expected = golden("pope_a")
    paths = []
    for number, file in enumerate(expected["files"]):
        items = [{"answer": item["answer"], "label": item["label"]} for item in file["items"]]
        text = (
            json.dumps(items, indent=1)
            if number % 2
            else "".join(json.dumps(item) + "\r\n" for item in items)
        )
        paths.append(write_text(tmp_path / f"{number}.json", text))
    record = whole(score, "pope", "--answers", *paths)
    first, *files = record["rows"]
    names = {
        "acc": "accuracy",
        "precision": "precision",
        "recall": "recall",
        "f1": "f1",
        "yes_ratio": "yes_ratio",
    }
    for row, file in zip(files, expected["files"], strict=True):
        for theirs, ours in names.items():
            assert row[ours] == pytest.approx(file["official"][theirs], abs=1e-9)
        assert row["n"] == len(file["items"])
    for ours in names.values():
        assert first[f"macro_{ours}"] == pytest.approx(
            np.mean([row[ours] for row in files]), abs=1e-9
        )
    counts = {
        key: sum(file["official"][key] for file in expected["files"])
        for key in ("TP", "FP", "TN", "FN")
    }
    precision, recall = (counts["TP"] / (counts["TP"] + counts[error]) for error in ("FP", "FN"))
    assert first["f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-9)
    assert first["n"] == sum(counts.values())


@pytest.mark.parametrize("case", ["mme_lavin_a", "mme_synthetic_a"])
def test_mme(score: Shell, tmp_path: Path, case: str) -> None:
    expected = golden(case)
    record = whole(score, "mme", "--answers", unzipped(case, tmp_path))
    first, *subsets = record["rows"]
    assert record["unit"] == "percent"
    assert {row["subset"] for row in subsets} == set(expected["subsets"])
    for row in subsets:
        official = expected["subsets"][row["subset"]]
        for name in ("acc", "acc_plus", "score"):
            assert row[name] == pytest.approx(official[name], abs=1e-9)
        assert (row["n"], row["n_other"]) == (official["n_images"], official["n_other"])
    assert first["total"] == pytest.approx(expected["total"], abs=1e-9)
    assert first["score"] == pytest.approx(expected["unweighted_mean_score"], abs=1e-9)
    assert "mme*" not in first


@pytest.mark.slow
def test_formats(score: Shell, tmp_path: Path) -> None:
    root = unzipped("davis_tree_a", tmp_path)
    command = ("davis", "--data", root / "DAVIS", "--results", root / "results")
    rows = whole(score, *command)["rows"]
    lines = [json.loads(line) for line in score(*command)[1].splitlines()]
    assert [{**line, "level": ""} for line in lines] == [
        {"task": "davis", "level": "", **row} for row in rows
    ]
    table = list(csv.DictReader(score(*command, "--format", "csv")[1].splitlines()))
    assert [float(row["j_and_f"]) for row in table] == [row["j_and_f"] for row in rows]
    text = score(*command, "--format", "table")[1]
    assert "52.6 [46.8, 74.5]" in text
    assert max(map(len, text.splitlines())) <= 80
