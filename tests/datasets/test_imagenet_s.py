from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kvtool.datasets.imagenet_s import ImageNetS, read_ids
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders


@pytest.mark.parametrize("inside", [True, False])
def test_images_classes_and_masks(tmp_path: Path, inside: bool) -> None:
    builders.imagenet_s(tmp_path)
    dataset = ImageNetS(tmp_path / "ImageNetS50" if inside else tmp_path)
    assert (dataset.split, dataset.size, len(dataset.images()), len(dataset.wnids)) == (
        "validation",
        50,
        50,
        50,
    )
    assert dataset.images()[1].id == "n01000007/ILSVRC2012_val_00000001"
    assert dataset.texts()[:2] == ("thing 0", "thing 1")
    image_id = dataset.images()[7].id
    assert dataset.class_id(image_id) == 8
    ids = dataset.label_map(image_id)
    assert sorted(np.unique(ids)) == [0, 8, 50, 1000]
    mask = dataset.mask(image_id)
    assert (mask == 1).sum() == 100
    assert (mask == 255).sum() == 10
    assert dataset.labelled_ids() == [ref.id for ref in dataset.images()]


def test_ids_above_255(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255, 256], [257, 919, 1000, 511]])
    assert np.array_equal(read_ids(builders.id_png(tmp_path / "map.png", ids)), ids)


def test_golden_tree_has_classes_without_a_folder(tmp_path: Path) -> None:
    """Maps alone, as a scorer needs them; five of fifty classes have a folder."""
    root = builders.golden("imagenets_a.zip", tmp_path / "ImageNetS50")
    dataset = ImageNetS(root)
    assert len(dataset.labelled_ids()) == 8
    present = {
        int(i) for name in dataset.labelled_ids() for i in np.unique(dataset.label_map(name))
    }
    assert present <= {*range(51), 1000}
    with pytest.raises(
        DatasetError,
        match=r"expected 50 class folders, found 5; complete the data set, or put the list",
    ):
        _ = dataset.wnids
    with pytest.raises(
        DatasetError, match=r"expected images by wnid at validation/, found names.txt"
    ):
        dataset.images()
    wnids = sorted({f"n{i:08d}" for i in range(1, 51)})
    builders.write_text(root / "ImageNetS_categories_im50.txt", "\r\n".join(wnids))
    dataset = ImageNetS(root)
    assert dataset.class_id("n00000037/img_0001") == 37
    # The first class of each map is the one its folder names, as the tree was made.
    assert all(
        dataset.class_id(name) in np.unique(dataset.label_map(name))
        for name in dataset.labelled_ids()
    )


def test_missing_map_and_unknown_image(tmp_path: Path) -> None:
    builders.imagenet_s(tmp_path)
    next((tmp_path / "ImageNetS50/validation-segmentation/n01000014").iterdir()).unlink()
    dataset = ImageNetS(tmp_path)
    assert len(dataset.labelled_ids()) == 49
    assert dataset.skipped == [
        f"{tmp_path}/ImageNetS50/validation-segmentation: no map of image "
        "n01000014/ILSVRC2012_val_00000002"
    ]
    with pytest.raises(DatasetError, match=r"expected n01000014/ILSVRC2012_val_00000002.png"):
        dataset.label_map("n01000014/ILSVRC2012_val_00000002")
    with pytest.raises(UsageError, match=r"no image 'n9/x'"):
        dataset.class_id("n9/x")


def test_names(tmp_path: Path) -> None:
    builders.imagenet_s(tmp_path)
    words = tmp_path / "words.txt"
    mapping = words.read_text().replace("\t", " ")
    builders.write_text(tmp_path / "LOC_synset_mapping.txt", mapping)
    words.unlink()
    assert ImageNetS(tmp_path).texts()[49] == "thing 49"
    builders.write_text(tmp_path / "LOC_synset_mapping.txt", "\n".join(mapping.splitlines()[1:]))
    with pytest.raises(
        DatasetError, match=r"expected a name of every class, found none of n01000343"
    ):
        ImageNetS(tmp_path).texts()
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(
        DatasetError, match=r"expected the classes' names in words.txt or LOC_synset_mapping.txt"
    ):
        ImageNetS(tmp_path).texts()


def test_two_sizes_need_a_choice(tmp_path: Path) -> None:
    builders.imagenet_s(tmp_path)
    shutil.copytree(tmp_path / "ImageNetS50", tmp_path / "ImageNetS300")
    with pytest.raises(
        DatasetError,
        match=r"expected one size, found ImageNetS300, ImageNetS50; give the path of one",
    ):
        ImageNetS(tmp_path)
    with pytest.raises(DatasetError, match=r"expected 300 class folders, found 50"):
        _ = ImageNetS(tmp_path / "ImageNetS300").wnids
