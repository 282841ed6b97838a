"""The package's own loaders read what is written: one code path for scenes and for the real data
sets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvtool.datasets import DATASETS, open_dataset
from kvtool.datasets.bdd10k import Bdd10k
from kvtool.datasets.coco import Coco
from kvtool.datasets.davis import Davis
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.datasets.images import load_image
from kvtool.datasets.msrc import Msrc
from kvtool.datasets.pascal5i import Pascal5i
from kvtool.datasets.refcoco import RefCoco
from kvtool.datasets.spair71k import SPair71k
from kvtool.demo.language import domain_sentence
from kvtool.demo.layouts import LAYOUTS
from kvtool.demo.layouts.imagenet_s import wnids
from kvtool.demo.layouts.msrc import CLASSES
from kvtool.demo.world import categories


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LAYOUTS.names() if name in DATASETS.names()])
def test_every_image_loads(world: Path, name: str) -> None:
    dataset = open_dataset(f"{name}:{world / name}")
    images = dataset.images()
    assert len({image.id for image in images}) == len(images) > 0
    for image in images[:20]:
        assert min(load_image(image).size) >= 88


@pytest.mark.slow
def test_spair_pairs(world: Path) -> None:
    dataset = open_dataset(f"spair71k:{world / 'spair71k'}@test")
    assert isinstance(dataset, SPair71k)
    assert len(dataset.pairs()) >= 60
    assert not dataset.skipped
    assert tuple(dataset.texts()) == categories()[:18]


@pytest.mark.slow
def test_pascal_episodes_of_all_five_classes(world: Path) -> None:
    for fold in range(4):
        dataset = open_dataset(f"pascal5i:{world / 'pascal5i'}@fold{fold}")
        assert isinstance(dataset, Pascal5i)
        assert {episode.class_id for episode in dataset.episodes(200)} == set(dataset.class_ids())
        assert not dataset.skipped
        assert tuple(dataset.texts()) == categories()[5 * fold : 5 * fold + 5]


@pytest.mark.slow
def test_coco_masks_and_captions(world: Path) -> None:
    dataset = open_dataset(f"coco:{world / 'coco'}@val2014")
    assert isinstance(dataset, Coco)
    image_id = dataset.images()[0].id
    for instance in dataset.instances(image_id):
        rows, columns = np.nonzero(instance.mask())
        assert (
            columns.min(),
            rows.min(),
            columns.max() + 1,
            rows.max() + 1,
        ) == instance.box_xyxy_px
    assert len(dataset.captions()[image_id]) == 5


@pytest.mark.slow
def test_msrc_groups(world: Path) -> None:
    dataset = open_dataset(f"msrc:{world / 'msrc'}")
    assert isinstance(dataset, Msrc)
    assert tuple(dataset.groups()) == CLASSES
    assert all(len(ids) == 10 for ids in dataset.groups().values())
    assert set(np.unique(dataset.group_mask("fish/fish_0001", "fish"))) == {0, 1}


@pytest.mark.slow
def test_imagenet_s_names_and_masks(world: Path) -> None:
    dataset = open_dataset(f"imagenet-s:{world / 'imagenet-s'}")
    assert isinstance(dataset, ImageNetS)
    assert dict(zip(dataset.wnids, dataset.texts(), strict=True)) == wnids()
    for image_id in dataset.labelled_ids():
        assert (dataset.mask(image_id) == 1).sum() > 30
    assert not dataset.skipped


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "testA", "testB", "train"])
def test_refcoco_masks_and_captions(world: Path, split: str) -> None:
    dataset = open_dataset(f"refcoco:{world / 'refcoco'}@{split}")
    assert isinstance(dataset, RefCoco)
    assert len(dataset.expressions()) > 20
    for expression in dataset.expressions():
        assert dataset.object_mask(expression).any()
        assert dataset.prefix(expression.image_id, "correct")
    assert not dataset.skipped


@pytest.mark.slow
def test_davis_objects_are_numbered_from_one(world: Path) -> None:
    dataset = open_dataset(f"davis:{world / 'davis'}@val")
    assert isinstance(dataset, Davis)
    assert len(dataset.videos()) == 3
    for video in dataset.videos():
        assert dataset.objects(video.frame_ids[0], video.n_objects).any(axis=(1, 2)).all()
    assert not dataset.skipped


@pytest.mark.slow
def test_bdd_domains_have_their_sentences(world: Path) -> None:
    for kind, time, domain in (
        ("city street", "day", "day+street"),
        ("highway", "night", "night+highway"),
    ):
        dataset = open_dataset(f"bdd10k:{world / 'bdd10k'}@val-{domain}")
        assert isinstance(dataset, Bdd10k)
        assert len(dataset.images()) >= 10
        for image in dataset.images():
            assert dataset.prefix(image.id, "correct") == domain_sentence(time, kind)
            assert set(np.unique(dataset.label_map(image.id))) <= {*range(19), 255}
