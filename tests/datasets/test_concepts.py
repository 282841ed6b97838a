"""Captions of pictures, and the masks of what their words name: HasCaptions and HasConcepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets import open_dataset
from kvtool.datasets.coco import Coco
from kvtool.datasets.masks import VOID, concept_masks
from kvtool.errors import DatasetError
from kvtool.tasks.survey import Served, read_pictures, survey
from tests.support import datasets as builders
from tests.support.datasets.objects import instance
from tests.support.trees import msrc_v2

DOG_ID = "COCO_val2014_000000000042"


def services(spec: str) -> dict[str, Served]:
    dataset = open_dataset(spec)
    served = survey(dataset, read_pictures(dataset))
    return {entry.what: entry for entry in served if entry.what in ("captions", "concepts")}


def with_annotations(root: Path, *annotations: dict[str, Any]) -> Coco:
    """Return the small COCO with these objects in place of its own."""
    path = builders.coco(root) / "annotations/instances_val2014.json"
    record = json.loads(path.read_text())
    builders.write_json(path, {**record, "annotations": annotations})
    return Coco(root)


SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
STRIPE = {"counts": [24 * 4, 24 * 3, 24 * 25], "size": [24, 32]}


def test_every_category_has_a_mask_of_an_annotated_coco_image(tmp_path: Path) -> None:
    dataset = Coco(builders.coco(tmp_path))
    masks = dataset.concept_masks(DOG_ID)
    assert list(masks) == list(dataset.concepts()) == ["person", "dog"]
    expected = np.zeros((24, 32), np.uint8)
    expected[2:12, 2:12] = expected[8:20, 8:20] = 1
    assert np.array_equal(masks["dog"], expected)
    # A crowd is void to its own category, and nothing to the other.
    assert set(np.unique(masks["person"]).tolist()) == {0, VOID}
    assert np.array_equal(np.unique(np.nonzero(masks["person"])[1]), [4, 5, 6])
    assert not any(mask.any() for mask in dataset.concept_masks(DOG_ID[:-2] + "73").values())


def test_an_object_in_a_crowd_counts(tmp_path: Path) -> None:
    crowd_last = (instance(1, 42, 1, SQUARE), instance(2, 42, 1, STRIPE, iscrowd=1))
    mask = with_annotations(tmp_path, *crowd_last).concept_masks(DOG_ID)["person"]
    expected = np.zeros((24, 32), np.uint8)
    expected[:, 4:7] = VOID
    expected[2:12, 2:12] = 1
    assert np.array_equal(mask, expected)


def test_a_damaged_object_is_void_in_its_box_and_counted_once(tmp_path: Path) -> None:
    damaged = instance(1, 42, 18, [[1, 2, "x", 4, 5, 6]])
    far = {**instance(5, 42, 18, "nothing"), "bbox": [28.5, -3, 100, 5]}
    dataset = with_annotations(tmp_path, damaged, far, instance(2, 42, 18, SQUARE))
    for _ in range(2):
        mask = dataset.concept_masks(DOG_ID)["dog"]
    expected = np.zeros((24, 32), np.uint8)
    expected[2:20, 2:20] = expected[0:2, 28:32] = VOID
    expected[2:12, 2:12] = 1
    assert np.array_equal(mask, expected)
    assert len(dataset.skipped) == 2
    assert all("instances_val2014.json: annotation" in line for line in dataset.skipped)
    assert services(f"coco:{tmp_path}")["concepts"].left_out == 2


def test_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """A picture of a trillion pixels, and two entries of one picture that differ."""
    path = builders.coco(tmp_path) / "annotations/instances_val2014.json"
    record = json.loads(path.read_text())
    entry = record["images"][0]
    record["images"][1] |= {"width": 10**6, "height": 10**6}
    record["images"].append({**entry, "id": 7, "width": 64})
    record["annotations"] = [instance(1, 42, 18, SQUARE), instance(2, 7, 18, SQUARE)]
    builders.write_json(path, record)
    dataset = Coco(tmp_path)
    with pytest.raises(DatasetError, match="megapixels, found 1000000 x 1000000"):
        dataset.concept_masks(DOG_ID[:-2] + "73")
    mask = dataset.concept_masks(DOG_ID)["dog"]
    assert mask.shape == (24, 64)
    assert (mask[2:12, 2:12] == 1).all()
    (line,) = dataset.skipped
    assert "annotation 1: expected a picture of 64 x 24 pixels, found 32 x 24" in line


def test_an_image_that_nobody_annotated_has_no_masks(tmp_path: Path) -> None:
    builders.coco(tmp_path)
    builders.picture(tmp_path / "val2014/COCO_val2014_000000000099.jpg")
    with pytest.raises(DatasetError, match=r"instances_val2014.json: expected image COCO_"):
        Coco(tmp_path).concept_masks("COCO_val2014_000000000099")
    served = services(f"coco:{tmp_path}")
    assert (served["concepts"].n, served["concepts"].images, served["concepts"].left_out) == (
        1,
        1,
        2,
    )
    assert (served["captions"].n, served["captions"].images) == (3, 2)


def test_coco_without_annotations_says_which_file_is_missing(tmp_path: Path) -> None:
    builders.picture(tmp_path / "val2017/000000000139.jpg")
    served = services(f"coco:{tmp_path}")
    assert served["captions"].missing == "no annotations/captions_val2017.json"
    assert served["concepts"].missing == "no annotations/instances_val2017.json"


def test_captions_of_pictures_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    builders.coco(tmp_path)
    (tmp_path / "val2014/COCO_val2014_000000000073.jpg").unlink()
    assert list(Coco(tmp_path).captions()) == [DOG_ID]


def test_a_damaged_caption_is_counted(tmp_path: Path) -> None:
    path = builders.coco(tmp_path) / "annotations/captions_val2014.json"
    record = json.loads(path.read_text())
    record["annotations"].append({"id": 90, "image_id": 42, "caption": 7})
    builders.write_json(path, record)
    captions = services(f"coco:{tmp_path}")["captions"]
    assert (captions.n, captions.left_out) == (3, 1)
    assert "annotation 90" in captions.reasons[0]


def test_refcoco_captions_are_its_expressions(tmp_path: Path) -> None:
    dataset: Any = open_dataset(f"refcoco:{builders.refcoco(tmp_path)}")
    assert dataset.captions() == {
        "COCO_train2014_000000000006": ("left dog", "the dog"),
        "COCO_train2014_000000000005": ("the dog",),
    }
    assert dataset.concepts() == ("dog",)
    mask = dataset.concept_masks("COCO_train2014_000000000006")["dog"]
    assert np.array_equal(
        mask, np.where(np.isin(np.arange(32), [4, 5, 6]), 1, 0) * np.ones((24, 1))
    )
    with pytest.raises(DatasetError, match="expected image elsewhere"):
        dataset.concept_masks("elsewhere")


def test_masks_of_all_pascal_classes(tmp_path: Path) -> None:
    dataset: Any = open_dataset(f"pascal5i:{builders.pascal(tmp_path)}@fold0")
    masks = dataset.concept_masks("2007_030000")
    assert (len(masks), "potted plant" in masks) == (20, True)
    assert {name for name, mask in masks.items() if (mask == 1).any()} == {"bird", "boat"}
    assert all((mask[3, 4:21] == VOID).all() for mask in masks.values())
    assert masks["bird"][4:16, 5:20].all()
    assert not masks["boat"][4:16, 5:20].any()


def test_imagenet_s_is_annotated_for_what_its_maps_show(tmp_path: Path) -> None:
    dataset: Any = open_dataset(f"imagenet-s:{builders.imagenet_s(tmp_path)}")
    first, *_ = dataset.images()
    masks = dataset.concept_masks(first.id)
    assert list(masks) == ["thing 0", "thing 49"]
    assert (masks["thing 0"] == 1).sum() == 100
    assert (masks["thing 0"][4, 5:15] == VOID).all()
    assert len(dataset.concepts()) == 50


def test_masks_of_bdd10k_msrc_and_msrc_v2(tmp_path: Path) -> None:
    streets: Any = open_dataset(f"bdd10k:{builders.bdd10k(tmp_path / 'bdd')}")
    masks = streets.concept_masks("day1")
    assert (len(masks), (masks["car"] == 1).sum(), (masks["car"] == VOID).sum()) == (19, 32, 128)
    groups: Any = open_dataset(f"msrc:{builders.msrc7(tmp_path / 'msrc')}")
    assert list(groups.concept_masks("car/0")) == ["car"]
    assert groups.concepts() == ("bird", "car")
    v2: Any = open_dataset(f"msrc:{msrc_v2(tmp_path / 'v2')}")
    masks = v2.concept_masks("1_1_s")
    assert len(masks) == 7
    for category in v2.concepts():
        assert np.array_equal(masks[category], v2.group_mask("1_1_s", category))


def test_own_masks_and_captions(tmp_path: Path) -> None:
    builders.own(tmp_path)
    builders.write_json(tmp_path / "classes.json", {"names": {"1": "black_cat", "2": "dog"}})
    path = tmp_path / "captions.jsonl"
    builders.write_text(path, path.read_text() + '\n{"image": "p00", "caption": "again"}\nnot JSON')
    dataset: Any = open_dataset(f"own:{tmp_path}")
    assert dataset.concepts() == ("black cat", "dog")
    masks = dataset.concept_masks("p00")
    assert (masks["black cat"][4:16, 5:20] == 1).all()
    assert (masks["dog"][3, 4:21] == VOID).all()
    assert dataset.concept_masks("videos/one/00000") == {}
    (tmp_path / "masks/p01.png").unlink()
    with pytest.raises(DatasetError, match="no mask of image p01"):
        open_dataset(f"own:{tmp_path}").concept_masks("p01")  # type: ignore[attr-defined]
    assert dataset.captions()["p00"] == ["a cat on a mat", "again"]
    served = services(f"own:{tmp_path}")
    assert (served["captions"].n, served["captions"].left_out) == (5, 1)
    assert (served["concepts"].images, served["concepts"].left_out) == (13, 1)


def test_two_classes_of_one_word_are_one_concept() -> None:
    labels = np.array([[0, 1, 2], [3, 9, 2]])
    classes = [(1, "crane"), (2, "cat"), (3, "crane")]
    masks = concept_masks(labels, classes, ignored_id=9)
    assert {word: mask.tolist() for word, mask in masks.items()} == {
        "crane": [[0, 1, 0], [1, VOID, 0]],
        "cat": [[0, 0, 1], [0, VOID, 1]],
    }


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["coco", "refcoco", "pascal5i", "imagenet-s", "msrc", "bdd10k"])
def test_scenes_serve_concepts(tmp_path: Path, layout: str) -> None:
    served = services(f"scenes:{tmp_path}@{layout}")
    assert served["concepts"].n > 0
    assert not served["concepts"].left_out
    assert bool(served["captions"].n) == (layout in ("coco", "refcoco"))
