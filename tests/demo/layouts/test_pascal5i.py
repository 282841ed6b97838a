"""Fold lists, labels and the void line agree with the scenes that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.demo.layouts.pascal5i import draw_picture
from kvtool.demo.world import categories


@pytest.mark.slow
@pytest.mark.parametrize("split", ["trn", "val"])
def test_lists_name_exactly_what_the_labels_show(world: Path, split: str) -> None:
    folder = world / "pascal5i"
    listed: dict[str, set[int]] = {}
    for fold in range(4):
        lines = (folder / "splits" / "pascal" / split / f"fold{fold}.txt").read_text().splitlines()
        assert len(lines) >= 40
        entries = [(line[:-4], int(line[-2:])) for line in lines]
        assert {class_id for _, class_id in entries} == set(range(5 * fold + 1, 5 * fold + 6))
        for name, class_id in entries:
            listed.setdefault(name, set()).add(class_id)
    assert len(listed) == 120
    for name, classes in listed.items():
        labels = np.asarray(Image.open(folder / "VOC2012" / "SegmentationClassAug" / f"{name}.png"))
        with Image.open(folder / "VOC2012" / "JPEGImages" / f"{name}.jpg") as image:
            assert image.size == labels.shape[::-1]
        ids, counts = np.unique(labels, return_counts=True)
        sizes = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        assert {
            label for label, size in sizes.items() if 1 <= label <= 20 and size >= 64
        } == classes
        assert set(sizes) <= {0, 255, *range(1, 21)}


@pytest.mark.slow
def test_labels_are_the_scene_with_a_thin_void_line(world: Path) -> None:
    folder = world / "pascal5i" / "VOC2012"
    for index, path in enumerate(sorted((folder / "SegmentationClassAug").iterdir())[:20]):
        scene, rendered = draw_picture(0, "trn", index)
        labels = np.asarray(Image.open(path))
        things = rendered.thing_map.astype(int) - 1
        truth = np.asarray([categories().index(thing.category) + 1 for thing in scene.things])[
            things
        ] * (things >= 0)
        void = labels == 255
        assert np.array_equal(labels[~void], truth[~void])
        assert 0 < void.mean() < 0.12
        # No two regions touch without void between them, to the right and below.
        valid = ~void
        for first, second in (
            ((slice(None), slice(0, -1)), (slice(None), slice(1, None))),
            ((slice(0, -1),), (slice(1, None),)),
        ):
            overlap = valid[first] & valid[second]
            assert np.array_equal(labels[first][overlap], labels[second][overlap])


@pytest.mark.slow
def test_splits_share_no_image(world: Path) -> None:
    names = [
        {
            line[:-4]
            for fold in range(4)
            for line in (folder / f"fold{fold}.txt").read_text().splitlines()
        }
        for folder in sorted((world / "pascal5i" / "splits" / "pascal").iterdir())
    ]
    assert not names[0] & names[1]


@pytest.mark.slow
def test_class_names_and_enough_images_for_five_shots(world: Path) -> None:
    folder = world / "pascal5i"
    assert tuple((folder / "classes.txt").read_text().split()) == categories()[:20]
    for split in ("trn", "val"):
        for fold in range(4):
            lines = (
                (folder / "splits" / "pascal" / split / f"fold{fold}.txt").read_text().splitlines()
            )
            for class_id in range(5 * fold + 1, 5 * fold + 6):
                assert sum(line.endswith(f"__{class_id:02d}") for line in lines) >= 6
