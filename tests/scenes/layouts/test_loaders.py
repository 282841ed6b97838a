"""The package's own loaders read what is written: one code path for scenes and for the real data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvtool.datasets import DATASETS, open_dataset
from kvtool.datasets.coco import Coco
from kvtool.datasets.images import load_image
from kvtool.datasets.pascal5i import Pascal5i
from kvtool.datasets.spair71k import SPair71k
from kvtool.scenes.layouts import LAYOUTS
from kvtool.scenes.world import categories


@pytest.mark.parametrize("name", [name for name in LAYOUTS.names() if name in DATASETS.names()])
def test_every_image_loads(world: Path, name: str) -> None:
    dataset = open_dataset(f"{name}:{world / name}")
    images = dataset.images()
    assert len({image.id for image in images}) == len(images) > 0
    for image in images[:20]:
        assert min(load_image(image).size) >= 88


def test_spair_pairs(world: Path) -> None:
    dataset = open_dataset(f"spair71k:{world / 'spair71k'}@test")
    assert isinstance(dataset, SPair71k)
    assert len(dataset.pairs()) >= 60
    assert not dataset.skipped
    assert tuple(dataset.texts()) == categories()[:18]


def test_pascal_episodes_of_all_five_classes(world: Path) -> None:
    for fold in range(4):
        dataset = open_dataset(f"pascal5i:{world / 'pascal5i'}@fold{fold}")
        assert isinstance(dataset, Pascal5i)
        assert {episode.class_id for episode in dataset.episodes(200)} == set(dataset.class_ids())
        assert not dataset.skipped
        assert tuple(dataset.texts()) == categories()[5 * fold : 5 * fold + 5]


def test_coco_masks_and_captions(world: Path) -> None:
    dataset = open_dataset(f"coco:{world / 'coco'}@val2014")
    assert isinstance(dataset, Coco)
    image_id = dataset.images()[0].id
    for instance in dataset.instances(image_id):
        rows, columns = np.nonzero(instance.mask())
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == instance.box_xyxy_px
    assert len(dataset.captions(image_id)) == 5
