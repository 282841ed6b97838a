"""Instances and captions agree with the scenes; pycocotools reads them and decodes to the drawn
masks.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from kvtool.demo.layouts.coco import pictures
from kvtool.demo.world import categories

# pycocotools' decoder speaks to NumPy 2 in an old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def coco(world: Path) -> COCO:
    return COCO(str(world / "coco" / "annotations" / "instances_val2014.json"))


@pytest.mark.slow
def test_masks_decode_to_the_drawn_ones(coco: COCO) -> None:
    forms = set()
    for picture in pictures(0, "small"):
        entries = coco.imgToAnns[picture.image_id]
        assert len(entries) == len(picture.scene.things)
        for index, (entry, thing) in enumerate(zip(entries, picture.scene.things, strict=True)):
            mask = picture.rendered.thing_map == index + 1
            assert np.array_equal(coco.annToMask(entry), mask)
            assert entry["area"] == mask.sum()
            x0, y0, x1, y1 = picture.rendered.boxes_xyxy_px[index] or (0, 0, 0, 0)
            assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            assert coco.cats[entry["category_id"]]["name"] == thing.category
            forms.add(type(entry["segmentation"]))
    assert forms == {list, dict}


@pytest.mark.slow
def test_images_are_there_with_their_sizes(world: Path, coco: COCO) -> None:
    entries = coco.dataset["images"]
    assert len({entry["id"] for entry in entries}) == len(entries) == 80
    for entry in entries:
        with Image.open(world / "coco" / "val2014" / entry["file_name"]) as image:
            assert image.size == (entry["width"], entry["height"])
        assert entry["file_name"] == f"COCO_val2014_{entry['id']:012d}.jpg"
    assert len(list((world / "coco" / "val2014").iterdir())) == len(entries)
    assert [entry["name"] for entry in coco.dataset["categories"]] == list(categories())


@pytest.mark.slow
def test_captions_name_the_things_of_their_image(world: Path, coco: COCO) -> None:
    content = json.loads((world / "coco" / "annotations" / "captions_val2014.json").read_text())
    per_image: dict[int, int] = {}
    for entry in content["annotations"]:
        per_image[entry["image_id"]] = per_image.get(entry["image_id"], 0) + 1
        names = {
            coco.cats[thing["category_id"]]["name"] for thing in coco.imgToAnns[entry["image_id"]]
        }
        assert all(name in entry["caption"] for name in names)
    assert set(per_image.values()) == {5}
    assert set(per_image) == set(coco.imgs)
    assert len({entry["id"] for entry in content["annotations"]}) == len(content["annotations"])
