"""Masks, frames and their attributes in the files of the 100K set."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from kvtool.demo.street import TRAIN_IDS


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("train", 12), ("val", 32)])
def test_images_masks_and_frames(world: Path, split: str, count: int) -> None:
    folder = world / "bdd10k"
    images = sorted((folder / "images" / "10k" / split).iterdir())
    masks = sorted((folder / "labels" / "sem_seg" / "masks" / split).iterdir())
    assert [path.stem for path in images] == [path.stem for path in masks]
    assert len(images) == count
    frames = {
        f["name"]: f
        for f in json.loads((folder / "labels" / "det_20" / f"det_{split}.json").read_text())
    }
    shared = [path.name for path in images if path.name in frames]
    assert len(shared) == count - (2 if split == "val" else 1)
    assert len(frames) == len(shared) + 4
    for image_path, mask_path in zip(images, masks, strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            assert image.size == mask.size == (256, 144)
            ids = np.asarray(mask)
        assert set(np.unique(ids)) <= {*range(19), 255}
        assert (ids[-4:] == 255).all()
        assert (ids[:-4] != 255).all()
        if image_path.name in frames:
            check_boxes(frames[image_path.name]["labels"], ids)


def check_boxes(labels: list[dict[str, Any]], ids: npt.NDArray[np.uint8]) -> None:
    """Each box touches its class on all four sides; there is one for every class that is in the
    mask.
    """
    names = {"pedestrian": "person"}
    for label in labels:
        x1, y1, x2, y2 = (int(label["box2d"][side]) for side in ("x1", "y1", "x2", "y2"))
        class_name = names.get(label["category"], label["category"])
        inside = ids[y1 : y2 + 1, x1 : x2 + 1] == TRAIN_IDS.index(class_name)
        assert inside[0].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        assert y2 >= 140 or inside[-1].any()
    seen = {TRAIN_IDS[i] for i in np.unique(ids[:-4])}
    boxed = {names.get(label["category"], label["category"]) for label in labels}
    assert seen & {"person", "car", "truck", "bus", "traffic light", "traffic sign"} == boxed


@pytest.mark.slow
def test_all_four_domains_are_there_by_attributes_and_by_light(world: Path) -> None:
    folder = world / "bdd10k"
    frames = json.loads((folder / "labels" / "det_20" / "det_val.json").read_text())
    domains: Counter[tuple[str, str]] = Counter()
    light: dict[str, list[float]] = {"daytime": [], "night": []}
    for frame in frames:
        path = folder / "images" / "10k" / "val" / frame["name"]
        if path.is_file():
            attributes = frame["attributes"]
            domains[attributes["timeofday"], attributes["scene"]] += 1
            light[attributes["timeofday"]].append(float(np.asarray(Image.open(path)).mean()))
    assert set(domains) == {
        (time, scene) for time in ("daytime", "night") for scene in ("city street", "highway")
    }
    assert domains["daytime", "city street"] == 10
    assert domains["night", "highway"] == 12
    assert min(light["daytime"]) > max(light["night"])
