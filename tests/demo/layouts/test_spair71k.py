"""The pairs on disk agree with their images, masks and the scenes that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.demo.layouts.spair71k import draw_picture
from kvtool.demo.shapes import parts
from kvtool.demo.world import categories


def lines_of(folder: Path, split: str) -> list[str]:
    return (folder / "Layout" / "large" / f"{split}.txt").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("split", "least"), [("trn", 50), ("val", 30), ("test", 60)])
def test_every_pair_is_whole(world: Path, split: str, least: int) -> None:
    folder = world / "spair71k"
    lines = lines_of(folder, split)
    assert len(lines) >= least
    assert {line.split(":")[1] for line in lines} == set(categories()[:18])
    assert len({line.split("-", 1)[1] for line in lines}) == len(lines)
    for number, line in enumerate(lines):
        pair = json.loads((folder / "PairAnnotation" / split / f"{line}.json").read_text())
        head, category = line.split(":")
        names = head.split("-")
        assert int(names[0]) == number + 1 == pair["pair_id"] + 1
        assert pair["filename"] == line
        assert pair["category"] == category
        assert len(pair["src_kps"]) == len(pair["trg_kps"]) == len(pair["kps_ids"]) >= 3
        assert all(0 <= int(key) < len(parts(category)) for key in pair["kps_ids"])
        for side, name in (("src", names[1]), ("trg", names[2])):
            assert pair[f"{side}_imname"] == f"{name}.jpg"
            _check_side(
                folder, pair[f"{side}_imsize"], pair[f"{side}_bndbox"], f"{category}/{name}"
            )
            annotation = json.loads(
                (folder / "ImageAnnotation" / category / f"{name}.json").read_text()
            )
            assert [annotation["kps"][key] for key in pair["kps_ids"]] == pair[f"{side}_kps"]
        assert pair["mirror"] in (0, 1)
        assert pair["truncation"] in range(4)
        assert pair["occlusion"] in range(4)
        assert pair["viewpoint_variation"] in range(3)
        assert pair["scale_variation"] in range(3)


def _check_side(folder: Path, imsize: list[int], box: list[int], name: str) -> None:
    with Image.open(folder / "JPEGImages" / f"{name}.jpg") as image:
        assert [*image.size, 3] == imsize
    mask = np.asarray(Image.open(folder / "Segmentation" / f"{name}.png")) > 0
    rows, columns = np.nonzero(mask)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box


@pytest.mark.slow
def test_keypoints_lie_on_their_object(world: Path) -> None:
    folder, checked, hidden = world / "spair71k", 0, 0
    for path in (folder / "ImageAnnotation").rglob("*.json"):
        annotation = json.loads(path.read_text())
        assert list(annotation["kps"]) == [
            str(i) for i in range(len(parts(annotation["category"])))
        ]
        mask = np.asarray(
            Image.open(folder / "Segmentation" / annotation["category"] / f"{path.stem}.png")
        )
        for point in annotation["kps"].values():
            hidden += point is None
            if point is not None:
                assert mask[point[1], point[0]] == annotation["category_id"] + 1
                checked += 1
    assert checked > 500
    assert hidden > 0


@pytest.mark.slow
def test_splits_share_no_image(world: Path) -> None:
    used = {split: set() for split in ("trn", "val", "test")}  # type: dict[str, set[str]]
    for split, names in used.items():
        for line in lines_of(world / "spair71k", split):
            names.update(line.split(":")[0].split("-")[1:])
    assert not used["trn"] & used["test"]
    assert not used["trn"] & used["val"]
    assert not used["val"] & used["test"]


@pytest.mark.slow
def test_points_are_the_parts_of_the_scene(world: Path) -> None:
    """The first test image of a category, drawn again: the id of a point is the place of its part
    in `parts`.
    """
    folder = world / "spair71k"
    line = next(line for line in lines_of(folder, "test") if line.endswith(":fish"))
    names = sorted(path.stem for path in (folder / "JPEGImages" / "fish").iterdir())
    picture = draw_picture(0, "test", "fish", 0, names[5])  # after three of trn and two of val
    annotation = json.loads((folder / "ImageAnnotation" / "fish" / f"{names[5]}.json").read_text())
    assert line
    for part, (x, y, seen) in picture.rendered.keypoints_xy_px[picture.index].items():
        keypoint = annotation["kps"][str(parts("fish").index(part))]
        assert keypoint == ([int(x), int(y)] if seen else None)
