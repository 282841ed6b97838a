"""Every golden case that concerns a metric, within its stated tolerance (see
tests/golden/README.md).
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.metrics import answers, correspondence, segmentation, video

GOLDEN = Path(__file__).parent.parent / "golden"


def load_json(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


def read_png(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(archive.read(name))) as image:
        return np.array(image)


@pytest.mark.parametrize(
    "case", ["davis_frames_480x854", "davis_frames_96x160", "davis_frames_edges"]
)
def test_davis_frames(case: str) -> None:
    data = np.load(GOLDEN / f"{case}.npz")
    pairs = list(zip(data["pred"].astype(bool), data["gt"].astype(bool), strict=True))
    np.testing.assert_allclose(
        [video.region_similarity(p, g) for p, g in pairs], data["J"], atol=1e-9
    )
    np.testing.assert_allclose(
        [video.boundary_accuracy(p, g) for p, g in pairs], data["F"], atol=1e-9
    )


def test_davis_tree() -> None:
    expected = load_json("davis_tree_a.json")
    with zipfile.ZipFile(GOLDEN / "davis_tree_a.zip") as archive:
        names = [n for n in archive.namelist() if n.endswith(".png")]
        units = []
        for sequence in archive.read("DAVIS/ImageSets/2017/val.txt").decode().split():
            truth = [
                read_png(archive, n)
                for n in sorted(
                    n for n in names if n.startswith(f"DAVIS/Annotations/480p/{sequence}/")
                )
            ]
            predictions = [
                read_png(archive, n)
                for n in sorted(n for n in names if n.startswith(f"results/{sequence}/"))
            ]
            j, f = video.object_frames(predictions, truth)
            np.testing.assert_allclose(j, expected["per_frame"][sequence]["J"], atol=1e-9)
            np.testing.assert_allclose(f, expected["per_frame"][sequence]["F"], atol=1e-9)
            for index, unit in enumerate(video.davis_units(j, f)):
                reference = expected["per_object"][f"{sequence}_{index + 1}"]
                order = ("J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay")
                np.testing.assert_allclose(unit[:6], [reference[key] for key in order], atol=1e-9)
                units.append(unit)
    scores = video.davis_scores(np.sum(units, axis=0))
    names_of = {
        "J&F-Mean": "j_and_f",
        "J-Mean": "j_mean",
        "J-Recall": "j_recall",
        "J-Decay": "j_decay",
        "F-Mean": "f_mean",
        "F-Recall": "f_recall",
        "F-Decay": "f_decay",
    }
    for official, ours in names_of.items():
        assert scores[ours] == pytest.approx(expected["global"][official], abs=1e-9)


@pytest.mark.parametrize("case", ["pck_float_a.json", "pck_integer_a.json"])
def test_pck(case: str) -> None:
    data = load_json(case)
    alphas = data["alphas"]
    flags = [
        correspondence.correct_keypoints(
            np.array(p["prd_kps"]),
            np.array(p["trg_kps"]),
            correspondence.box_side_px(p["trg_bndbox"]),
            alphas,
        )
        for p in data["pairs"]
    ]
    correct = np.array([f.sum(axis=-1) for f in flags]).T
    total = np.array([len(p["trg_kps"]) for p in data["pairs"]])
    categories = np.array([p["category"] for p in data["pairs"]])
    scores = correspondence.pck_scores(correspondence.pck_units(correct, total).sum(axis=-2))
    for i, alpha in enumerate(alphas):
        hpf, survey = (data["expected"][name][str(alpha)] for name in ("hpf", "visual_ai"))
        assert correct[i].tolist() == hpf["correct_per_pair"]
        assert np.concatenate([f[i] for f in flags]).astype(int).tolist() == survey["correct"]
        assert scores["pck_image"][i] == pytest.approx(hpf["pck_image"], abs=1e-6)
        assert scores["pck_point"][i] == pytest.approx(survey["pck_point"], abs=1e-6)
        for category, reference in hpf["pck_image_per_category"].items():
            units = correspondence.pck_units(correct, total)[i, categories == category]
            assert correspondence.pck_scores(units.sum(axis=0))["pck_image"] == pytest.approx(
                reference, abs=1e-6
            )
    for alpha, dift in data["expected"].get("dift", {}).items():
        for name in ("pck_image", "pck_point"):
            assert scores[name][alphas.index(float(alpha))] == pytest.approx(dift[name], abs=1e-6)


def test_fewshot() -> None:
    data = np.load(GOLDEN / "fss_a.npz")
    counts = [
        segmentation.binary_counts(p == 1, label == c, label != segmentation.VOID)
        for p, label, c in zip(data["pred"], data["label"], data["class_id"], strict=True)
    ]
    intersection, union = (np.stack(column) for column in zip(*counts, strict=True))
    np.testing.assert_array_equal(intersection, data["inter"])
    np.testing.assert_array_equal(union, data["union"])
    units = segmentation.fewshot_units(intersection, union, data["class_id"] - 1, 5)
    scores = segmentation.fewshot_scores(units.sum(axis=0))
    assert 100 * scores["miou"] == pytest.approx(float(data["miou"]), abs=1e-3)
    assert 100 * scores["fb_iou"] == pytest.approx(float(data["fb_iou"]), abs=1e-3)
    episodes = data["episode_iou_void_dropped"]
    assert scores["miou_episode"] == pytest.approx(np.nanmean(episodes), abs=1e-6)
    np.testing.assert_allclose(units[:, -2], np.nan_to_num(episodes), atol=1e-6)


def test_imagenet_s() -> None:
    expected = load_json("imagenets_a.json")
    n_classes = expected["num_classes"] + 1
    total = np.zeros((3, n_classes), np.int64)
    with zipfile.ZipFile(GOLDEN / "imagenets_a.zip") as archive:
        for name in archive.namelist():
            if name.startswith("validation-segmentation/") and name.endswith(".png"):
                truth, prediction = (
                    (rgb := read_png(archive, n).astype(np.int64))[..., 0] + 256 * rgb[..., 1]
                    for n in (name, name.replace("validation-segmentation", "predict"))
                )
                total += segmentation.class_counts(
                    prediction, truth, n_classes, segmentation.IMAGENET_S_IGNORE
                )
    scores = segmentation.imagenet_s_scores(total.reshape(-1))
    assert 100 * scores["miou"] == pytest.approx(expected["mIoU"], abs=1e-3)
    iou = np.nan_to_num(segmentation.class_iou(total.reshape(-1)))
    np.testing.assert_allclose(100 * iou, expected["IoU_per_class_0_to_C"], atol=1e-3)
    present = iou[expected["classes_in_gt"]]
    assert scores["miou_present"] == pytest.approx(present.mean(), abs=1e-9)


def test_bdd() -> None:
    expected = load_json("bdd_a.json")
    total = np.zeros((3, segmentation.BDD_CLASSES), np.int64)
    with zipfile.ZipFile(GOLDEN / "bdd_a.zip") as archive:
        names = set(archive.namelist())
        for name in sorted(n for n in names if n.startswith("gt/") and n.endswith(".png")):
            truth = read_png(archive, name)
            path = name.replace("gt/", "pred/")
            prediction = read_png(archive, path) if path in names else np.full_like(truth, 255)
            total += segmentation.class_counts(
                prediction, truth, segmentation.BDD_CLASSES, segmentation.VOID
            )
    assert 100 * segmentation.bdd_scores(total.reshape(-1))["miou"] == pytest.approx(
        expected["mIoU"], abs=1e-6
    )
    iou = np.nan_to_num(segmentation.class_iou(total.reshape(-1)))
    np.testing.assert_allclose(100 * iou, list(expected["IoU_per_class"].values()), atol=1e-6)


def test_refcoco() -> None:
    expected = load_json("refcoco_masks_a.json")
    data = np.load(GOLDEN / "refcoco_masks_a.npz")
    pairs = zip(data["pred"], data["ref_of_sentence"], strict=True)
    counts = [segmentation.binary_counts(p == 1, data["gt"][r] == 1) for p, r in pairs]
    intersection, union = (np.stack(column) for column in zip(*counts, strict=True))
    units = segmentation.foreground_units(intersection, union)
    np.testing.assert_allclose(units[:, 4], data["iou"], atol=1e-9)
    scores = segmentation.refcoco_scores(units.sum(axis=0))
    names = {"miou_fg": "mean_iou", "oiou": "oiou"} | {f"p@0.{i}": f"p@0.{i}" for i in range(5, 10)}
    for ours, official in names.items():
        assert 100 * scores[ours] == pytest.approx(expected[official], abs=1e-9)


def test_pope() -> None:
    for file in load_json("pope_a.json")["files"]:
        parsed = [answers.parse_pope(item["answer"]) for item in file["items"]]
        assert parsed == [item["expected_parse"] for item in file["items"]]
        labels = np.array([item["label"] == "yes" for item in file["items"]])
        sums = answers.pope_units(np.array(parsed) == "yes", labels).sum(axis=0)
        official = file["official"]
        assert sums.tolist() == [official[key] for key in ("TP", "FP", "TN", "FN")]
        scores = answers.pope_scores(sums)
        names = {
            "acc": "accuracy",
            "precision": "precision",
            "recall": "recall",
            "f1": "f1",
            "yes_ratio": "yes_ratio",
        }
        for theirs, ours in names.items():
            assert scores[ours] == pytest.approx(official[theirs], abs=1e-9)


@pytest.mark.parametrize("case", ["mme_lavin_a", "mme_synthetic_a"])
def test_mme(case: str) -> None:
    expected = load_json(f"{case}.json")
    scores = []
    with zipfile.ZipFile(GOLDEN / f"{case}.zip") as archive:
        for subset, score in expected["subsets"].items():
            lines = archive.read(f"{subset}.txt").decode().splitlines()
            fields = [line.split("\t") for line in lines]
            result = answers.mme_subset([f[3] for f in fields], [f[2] for f in fields])
            assert result == pytest.approx(score, abs=1e-9)
            scores.append(result["score"])
    assert sum(scores) == pytest.approx(expected["total"], abs=1e-9)
    assert np.mean(scores) == pytest.approx(expected["unweighted_mean_score"], abs=1e-9)
