"""Ids in two bytes, sorted wnids, and the border to ignore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.demo.layouts.imagenet_s import encode_ids, wnids
from kvtool.demo.world import categories


def test_wnids_sort_otherwise_than_names() -> None:
    table = wnids()
    assert list(table) == sorted(table)
    assert sorted(table.values()) == list(categories())
    assert list(table.values()) != list(categories())
    assert all(len(wnid) == 9 and wnid.startswith("n9") for wnid in table)


@pytest.mark.slow
def test_masks_hold_the_class_of_their_folder(world: Path) -> None:
    folder = world / "imagenet-s"
    listed = (folder / "ImageNetS_categories_im50.txt").read_text().split()
    names = dict(line.split("\t") for line in (folder / "words.txt").read_text().splitlines())
    assert listed == sorted(path.name for path in (folder / "ImageNetS50" / "validation").iterdir())
    assert names == wnids()
    n_neighbors = 0
    for wnid in listed:
        images = sorted((folder / "ImageNetS50" / "validation" / wnid).iterdir())
        masks = sorted((folder / "ImageNetS50" / "validation-segmentation" / wnid).iterdir())
        assert [path.stem for path in images] == [path.stem for path in masks]
        assert len(images) == 3
        for image_path, mask_path in zip(images, masks, strict=True):
            assert image_path.suffix == ".JPEG"
            with Image.open(image_path) as image, Image.open(mask_path) as mask:
                assert image.size == mask.size
                assert mask.mode == "RGB"
                pixels = np.asarray(mask).astype(int)
            ids = pixels[..., 0] + 256 * pixels[..., 1]
            labels = set(np.unique(ids).tolist())
            assert {0, 1000, listed.index(wnid) + 1} <= labels
            assert all(label in (0, 1000) or 1 <= label <= 24 for label in labels)
            n_neighbors += len(labels) - 3
    assert n_neighbors > 5


def test_ids_above_a_byte_survive() -> None:
    ids = np.asarray([[0, 24, 255], [256, 919, 1000]])
    pixels = encode_ids(ids).astype(int)
    assert np.array_equal(pixels[..., 0] + 256 * pixels[..., 1], ids)
    assert not pixels[..., 2].any()
