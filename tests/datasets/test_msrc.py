from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvtool.datasets.msrc import V2_COLORS, Msrc
from kvtool.errors import DatasetError
from tests.support import datasets as builders


def test_msrc7_groups_and_masks(tmp_path: Path) -> None:
    dataset = Msrc(builders.msrc7(tmp_path))
    assert [ref.id for ref in dataset.images()] == [
        "bird/0",
        "bird/1",
        "bird/2",
        "car/0",
        "car/1",
        "car/2",
    ]
    assert dataset.groups() == {
        "bird": ("bird/0", "bird/1", "bird/2"),
        "car": ("car/0", "car/1", "car/2"),
    }
    assert dataset.texts() == ("bird", "car")
    mask = dataset.group_mask("car/2", "car")
    assert sorted(np.unique(mask)) == [0, 1]
    assert mask.sum() == mask[4:10, 2:10].sum() == 48
    assert dataset.skipped == []


def test_missing_mask_leaves_the_group(tmp_path: Path) -> None:
    builders.msrc7(tmp_path)
    (tmp_path / "groundtruth/bird/1.png").unlink()
    dataset = Msrc(tmp_path)
    assert dataset.groups()["bird"] == ("bird/0", "bird/2")
    assert dataset.skipped == [f"{tmp_path}/groundtruth: no mask of image bird/1"]
    assert len(dataset.images()) == 6
    with pytest.raises(DatasetError, match=r"no mask of image bird/1"):
        dataset.group_mask("bird/1", "bird")


def test_msrc_v2_reads_colours_and_void(tmp_path: Path) -> None:
    """An image of two classes is in both groups; black is void; a colour of another class is
    background.
    """
    field = np.full((24, 32, 3), (0, 128, 0), np.uint8)  # grass
    field[2:8, 2:8] = V2_COLORS["cow"]
    field[2:8, 20:28] = V2_COLORS["sheep"]
    field[1] = 0
    plain = np.full((24, 32, 3), V2_COLORS["plane"], np.uint8)
    nothing = np.full((24, 32, 3), (0, 128, 0), np.uint8)
    for name, colours in (("5_1_s", field), ("4_1_s", plain), ("1_1_s", nothing)):
        builders.picture(tmp_path / f"Images/{name}.bmp")
        builders.colour_bmp(tmp_path / f"GroundTruth/{name}_GT.bmp", colours)
    (tmp_path / "Images/Thumbs.db").write_bytes(b"x")
    dataset = Msrc(tmp_path)
    assert [ref.id for ref in dataset.images()] == [
        "4_1_s",
        "5_1_s",
    ]  # what is in no group serves no task
    assert dataset.groups() == {"cow": ("5_1_s",), "plane": ("4_1_s",), "sheep": ("5_1_s",)}
    mask = dataset.group_mask("5_1_s", "cow")
    assert (mask == 1).sum() == 36
    assert (mask[1] == 255).all()
    assert mask[4, 22] == 0


def test_layout_errors(tmp_path: Path) -> None:
    builders.picture(tmp_path / "image/bird/1.jpg")
    with pytest.raises(
        DatasetError, match=r"expected a folder of masks at groundtruth/, found image/"
    ):
        Msrc(tmp_path)
    (tmp_path / "groundtruth").mkdir()
    with pytest.raises(DatasetError, match=r"expected masks of the images, found none that fits"):
        Msrc(tmp_path).groups()
