from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets.coco import Coco
from kvtool.datasets.masks import segmentation_mask
from kvtool.errors import DatasetError
from tests.support import datasets as builders


def test_images_captions_and_prefix(tmp_path: Path) -> None:
    dataset = Coco(builders.coco(tmp_path))
    assert dataset.split == "val2014"
    ids = [ref.id for ref in dataset.images()]
    assert ids == [
        "COCO_val2014_000000000042",
        "COCO_val2014_000000000073",
        "COCO_val2014_000000000074",
    ]
    assert dataset.captions() == {
        ids[0]: ("The first caption.", "A second caption."),
        ids[1]: ("Another picture.",),
    }
    assert dataset.prefix(ids[0], "correct") == "The first caption."
    with pytest.raises(
        DatasetError, match=r"captions_val2014.json: no caption of image COCO_val2014_000000000074"
    ):
        dataset.prefix(ids[2], "correct")


def test_instances(tmp_path: Path) -> None:
    dataset = Coco(builders.coco(tmp_path))
    crowd, dog = dataset.instances("COCO_val2014_000000000042")
    assert dataset.texts() == ("person", "dog")
    assert (crowd.id, crowd.category, crowd.crowd) == (7, "person", True)
    assert (dog.category, dog.box_xyxy_px) == ("dog", (2, 2, 20, 20))
    expected = np.zeros((24, 32), np.uint8)
    expected[2:12, 2:12] = expected[8:20, 8:20] = 1  # two squares that overlap
    assert np.array_equal(dog.mask(), expected)
    assert crowd.mask().sum() == 24 * 3
    assert crowd.mask()[:, 4:7].all()
    assert dataset.instances("COCO_val2014_000000000073") == ()
    assert len(dataset.skipped) == 1
    assert "annotation 9" in dataset.skipped[0]


def test_images_alone_suffice(tmp_path: Path) -> None:
    builders.picture(tmp_path / "val2017/000000000139.jpg")
    dataset = Coco(tmp_path)
    assert (dataset.split, [ref.id for ref in dataset.images()], dataset.texts()) == (
        "val2017",
        ["000000000139"],
        (),
    )
    with pytest.raises(
        DatasetError,
        match=r"expected the captions at annotations/captions_val2017.json, found val2017/",
    ):
        dataset.prefix("000000000139", "correct")


def test_empty_image_folder(tmp_path: Path) -> None:
    (tmp_path / "val2014").mkdir()
    with pytest.raises(DatasetError, match=r"val2014: expected images, found none"):
        Coco(tmp_path).images()


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": [1, 2, 3], "size": [24, 32]},
        {"counts": [24 * 32], "size": [32, 24]},
        {"counts": "not a code", "size": [24, 32]},
        {"size": [24, 32]},
        7,
        [[1, 2, "x", 4, 5, 6]],
    ],
)
def test_damaged_segmentation(segmentation: Any) -> None:
    with pytest.raises(DatasetError) as caught:
        segmentation_mask(segmentation, 24, 32, "annotation 5")
    assert str(caught.value).startswith("annotation 5: expected")
    assert "\n" not in str(caught.value)


def test_degenerate_polygons_enclose_nothing() -> None:
    assert segmentation_mask([], 24, 32, "").sum() == 0
    assert segmentation_mask([[1.0, 2.0, 3.0, 4.0]], 24, 32, "").sum() == 0


@pytest.mark.parametrize("seed", range(8))
def test_compressed_run_lengths_as_pycocotools_writes_them(seed: int) -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 200, 2))
    mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    mask[: height // 2] &= rng.random() < 0.5  # long runs too
    code = coco_mask.encode(np.asfortranarray(mask))
    for counts in (code["counts"], code["counts"].decode()):
        segmentation = {"counts": counts, "size": [height, width]}
        assert np.array_equal(segmentation_mask(segmentation, height, width, ""), mask)
