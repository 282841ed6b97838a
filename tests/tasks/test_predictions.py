"""--save-predictions: what is on disk scores as the probe says, by other means than the probe's
own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.bdd10k import Bdd10k
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.datasets.masks import VOID
from kvtool.datasets.msrc import Msrc
from kvtool.datasets.pascal5i import Pascal5i
from kvtool.datasets.refcoco import RefCoco
from kvtool.datasets.spair71k import SPair71k
from kvtool.demo.layouts.files import label_palette
from kvtool.errors import DatasetError
from kvtool.experiments.probe.run import probe
from kvtool.experiments.score.run import score
from kvtool.store import Run
from tests.support.datasets import id_png, label_png, picture, write_text
from tests.support.tasks import co_segmentation as msrc
from tests.support.tasks import foreground_segmentation as pascal
from tests.support.tasks import language
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.units import noise, sample, write_run
from tests.tasks.predicted import BLOCK, best, index_of, iou, read_mask


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, BLOCK, {"propagation": "nearest", **BLOCK}])
def test_davis_by_the_official_score(tmp_path: Path, options: dict[str, Any]) -> None:
    run = davis.make_run(tmp_path, lost="two/00003")
    first = tmp_path / "data/Annotations/480p/one/00000.png"
    ids = np.asarray(Image.open(first)).copy()
    ids[2, :3] = VOID
    label_png(first, ids)
    result = probe(run, davis.TASK, save_predictions=tmp_path / "out", **options)
    files = index_of(tmp_path / "out", result)
    assert [record["file"] for record in files] == [f"{name}.png" for name in run.ids]
    for record in files:
        with Image.open(tmp_path / "out" / record["file"]) as image:
            assert image.mode == "P"
            assert image.getpalette() == label_palette()
            assert np.asarray(image).max() <= 2
    with Image.open(tmp_path / "out/one/00000.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.where(ids == VOID, 0, ids))
    scored = score("davis", data=tmp_path / "data", results=tmp_path / "out")
    row = best(result)
    for name in ("j_and_f", "j_mean", "f_mean", "j_recall", "f_recall", "j_decay", "f_decay"):
        for end in ("", "_low", "_high"):
            expected = row[name + end]
            if expected is not None:
                expected = pytest.approx(expected, abs=1e-9)
            assert scored.rows[0][name + end] == expected, name + end
    # Sequences are resampled, since their objects share frames.
    assert scored.rows[0]["n_resampled"] == row["n_resampled"]
    assert scored.n == result.n


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, BLOCK, {"upsample": True, **BLOCK}])
def test_spair_by_the_official_score(tmp_path: Path, options: dict[str, Any]) -> None:
    dataset = SPair71k(spair.write_spair(tmp_path / "data", images=4), "test")
    samples = [sample(ref.id, i, spair.WH, spair.GRID) for i, ref in enumerate(dataset.images())]
    fill = spair.planted(dataset.pairs())
    run = write_run(tmp_path / "store", "spair71k", "test", tmp_path / "data", samples, fill)
    result = probe(run, spair.TASK, save_predictions=tmp_path / "out", **options)
    index_of(tmp_path / "out", result)
    answers = tmp_path / "out/answers.jsonl"
    block = best(result)
    for row in score("spair", answers=answers).rows:
        if row.get("category") is None:
            expected = spair.summary(
                result, block["kind"], block["layer"], block["kv_head"], alpha=row.get("alpha")
            )
            assert (row["pck_image"], row["pck_point"]) == (
                expected["pck_image"],
                expected["pck_point"],
            )
            # Images are resampled: the probe's own intervals, of the same predictions.
            for name in ("n_resampled", "pck_image_low", "pck_image_high"):
                assert row[name] == pytest.approx(expected[name]), name
    first = json.loads(answers.read_text().splitlines()[0])
    record = json.loads(
        next((tmp_path / "data/PairAnnotation/test").glob("000000-*.json")).read_text()
    )
    shared = [name for name in first if name in record and name != "filename"]
    assert {
        "src_imname",
        "trg_imname",
        "src_kps",
        "trg_kps",
        "kps_ids",
        "src_bndbox",
        "category",
    } <= set(shared)
    assert {name: first[name] for name in shared} == {name: record[name] for name in shared}


@pytest.mark.slow
def test_pascal_masks_of_episodes(tmp_path: Path) -> None:
    run = pascal.make_run(tmp_path, 3)
    result = probe(run, pascal.TASK, episodes=11, save_predictions=tmp_path / "out", **BLOCK)
    dataset = Pascal5i(tmp_path / "data", "fold0")
    files = index_of(tmp_path / "out", result)
    for record, episode in zip(files, dataset.episodes(11), strict=True):
        assert (record["query"], tuple(record["supports"])) == (
            episode.query_id,
            episode.support_ids,
        )
    ious = [
        iou(read_mask(tmp_path / "out" / r["file"]), dataset.class_mask(r["query"], r["class_id"]))
        for r in files
    ]
    assert np.mean(ious) == pytest.approx(best(result)["miou_episode"], abs=1e-12)


@pytest.mark.slow
def test_msrc_masks(tmp_path: Path) -> None:
    run = msrc.make_run(tmp_path)
    result = probe(run, msrc.TASK, save_predictions=tmp_path / "out")
    dataset = Msrc(tmp_path / "data")
    files = index_of(tmp_path / "out", result)
    ious = [
        iou(read_mask(tmp_path / "out" / r["file"]), dataset.group_mask(r["image"], r["category"]))
        for r in files
    ]
    assert {record["file"] for record in files} == {f"{name}.png" for name in run.ids}
    assert np.mean(ious) == pytest.approx(best(result)["j_mean"], abs=1e-12)


def imagenet_50(folder: Path) -> Run:
    """An image of 24 x 18 pixels of each of 50 classes, with the texts' vectors; noise in every
    block.
    """
    rng, wnids = np.random.default_rng(0), [f"n{i:03d}" for i in range(50)]
    root = folder / "ImageNetS50"
    for number, wnid in enumerate(wnids, 1):
        picture(root / f"validation/{wnid}/{wnid}_1.JPEG", 24, 18)
        ids = np.kron(np.where(language.box(rng), number, 0), np.ones((3, 3), int))
        ids[0] = 1000
        id_png(root / f"validation-segmentation/{wnid}/{wnid}_1.png", ids)
    write_text(root / "words.txt", "".join(f"{wnid}\tthing {wnid}\n" for wnid in wnids))
    samples = [
        sample(ref.id, i, (24, 18), language.GRID) for i, ref in enumerate(ImageNetS(root).images())
    ]
    run = write_run(
        folder / "store",
        "imagenet-s",
        "validation",
        root,
        samples,
        noise(1),
        layers=language.LAYERS,
    )
    language.commit_texts(run, [f"thing {wnid}" for wnid in wnids])
    return run


@pytest.mark.slow
def test_imagenet_s_by_the_official_score(tmp_path: Path) -> None:
    run, out = imagenet_50(tmp_path), tmp_path / "out"
    result = probe(run, "semantic-segmentation", all_classes=True, save_predictions=out, **BLOCK)
    assert len(index_of(out, result)) == 50
    scored = score("imagenet-s", data=tmp_path / "ImageNetS50", results=out, classes=50).rows[0]
    assert scored["n_missing"] == 0
    assert scored["miou"] == pytest.approx(best(result)["miou"], abs=1e-12)
    assert scored["miou_present"] == pytest.approx(best(result)["miou_present"], abs=1e-12)
    assert best(result)["miou"] > 0


@pytest.mark.slow
def test_bdd_by_the_official_score(tmp_path: Path) -> None:
    run, out = language.bdd_run(tmp_path), tmp_path / "out"
    result = probe(run, "semantic-segmentation", all_classes=True, save_predictions=out)
    assert len(index_of(out, result)) == 6
    scored = score("bdd10k", data=tmp_path / "data", results=out).rows[0]
    assert (scored["n"], scored["n_missing"]) == (6, 0)
    assert scored["miou"] == pytest.approx(best(result)["miou"], abs=1e-12)
    masks = tmp_path / "masks"
    result = probe(run, "semantic-segmentation", save_predictions=masks)
    dataset, counts = Bdd10k(tmp_path / "data"), np.zeros((2, 2))
    for record in index_of(masks, result):
        labels, prediction = dataset.label_map(record["image"]), read_mask(masks / record["file"])
        true = labels == dataset.texts().index(record["category"])
        for side in (0, 1):
            a, b = (prediction == side)[labels != VOID], (true == side)[labels != VOID]
            counts[side] += [(a & b).sum(), (a | b).sum()]
    assert (counts[:, 0] / counts[:, 1]).mean() == pytest.approx(
        best(result)["miou_fgbg"], abs=1e-12
    )


@pytest.mark.slow
def test_masks_of_the_given_class_are_no_benchmark_maps(tmp_path: Path) -> None:
    run, out = imagenet_50(tmp_path), tmp_path / "out"
    result = probe(run, "semantic-segmentation", save_predictions=out, **BLOCK)
    dataset = ImageNetS(tmp_path / "ImageNetS50")
    intersection = union = 0
    for record in index_of(out, result):
        truth, prediction = dataset.mask(record["image"]), read_mask(out / record["file"])
        keep = truth != VOID
        intersection += int((prediction & (truth == 1))[keep].sum())
        union += int((prediction | (truth == 1))[keep].sum())
    assert intersection / union == pytest.approx(best(result)["iou_fg"], abs=1e-12)
    with pytest.raises(DatasetError, match=r"expected an? (RGB|colour-coded) map"):
        score("imagenet-s", data=tmp_path / "ImageNetS50", results=out, classes=50)


def test_refcoco_masks_of_sentences(tmp_path: Path) -> None:
    language.refcoco(tmp_path / "data")
    dataset = RefCoco(tmp_path / "data", "val")
    samples = [
        sample(r.id, i, language.GRID[::-1], language.GRID) for i, r in enumerate(dataset.images())
    ]
    run = write_run(
        tmp_path / "store",
        "refcoco",
        "val",
        tmp_path / "data",
        samples,
        noise(3),
        layers=language.LAYERS,
    )
    language.commit_texts(run, dataset.texts())
    result = probe(run, "referring-expression", save_predictions=tmp_path / "out")
    expressions = {expression.sent_id: expression for expression in dataset.expressions()}
    ious = []
    for record in index_of(tmp_path / "out", result):
        expression = expressions[record["sent_id"]]
        assert (record["sent"], record["image"], record["ann_id"]) == (
            expression.text,
            expression.image_id,
            expression.ann_id,
        )
        ious.append(
            iou(read_mask(tmp_path / "out" / record["file"]), dataset.object_mask(expression))
        )
    assert len(ious) == 8
    assert np.mean(ious) == pytest.approx(best(result)["miou_fg"], abs=1e-12)
