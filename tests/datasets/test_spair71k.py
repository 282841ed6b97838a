from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kvtool.datasets import open_dataset
from kvtool.datasets.images import load_image
from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders

LINES = [
    f"{i:06d}-{src}-{trg}:{category}" for i, (src, trg, category) in enumerate(builders.PAIRS, 1)
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_images_in_the_order_of_the_pairs(tmp_path: Path, end: str) -> None:
    dataset = open_dataset(f"spair71k:{builders.spair(tmp_path, end)}")
    ids = [ref.id for ref in dataset.images()]
    assert ids == [
        "aeroplane/a1", "aeroplane/a2", "aeroplane/a3", "pottedplant/p1", "pottedplant/a1",
        "dog/d1", "dog/d2",
    ]  # fmt: skip
    assert all(load_image(ref).size == (32, 24) for ref in dataset.images())
    assert (dataset.split, dataset.tasks) == ("test", ("semantic-correspondence",))


def test_pairs(tmp_path: Path) -> None:
    dataset = SPair71k(builders.spair(tmp_path))
    calls: list[tuple[int, int]] = []
    pairs = dataset.pairs(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [p.id for p in pairs] == LINES
    assert dataset.skipped == []
    third = pairs[2]
    assert (third.category, third.src_id, third.trg_id) == (
        "pottedplant",
        "pottedplant/p1",
        "pottedplant/a1",
    )
    assert third.src_kps_px == (
        (4.0, 5.0),
        (30.0, 20.0),
    )  # the second lies outside its box and is kept
    assert third.kps_ids == (0, 4)
    assert third.trg_box_xyxy_px == (1.0, 2.0, 21.0, 22.0)
    assert third.trg_wh_px == (32, 24)
    assert (third.mirror, third.viewpoint_variation, third.truncation) == (1, 2, 3)


def test_prefixes_and_texts(tmp_path: Path) -> None:
    dataset = SPair71k(builders.spair(tmp_path), "test")
    assert dataset.texts() == ("aeroplane", "dog", "potted plant")
    assert dataset.prefix("pottedplant/a1", "correct") == "potted plant"
    assert dataset.prefix("pottedplant/a1", "none") == ""
    wrong = {ref.id: dataset.prefix(ref.id, "incorrect") for ref in dataset.images()}
    assert wrong == {
        ref.id: SPair71k(tmp_path).prefix(ref.id, "incorrect") for ref in dataset.images()
    }
    assert all(
        dataset.prefix(i, "correct") != name and name in dataset.texts()
        for i, name in wrong.items()
    )
    assert "croissants" in dataset.prefix("dog/d1", "random")
    with pytest.raises(UsageError, match=r"no image 'cat/c1'"):
        dataset.prefix("cat/c1", "correct")
    with pytest.raises(UsageError, match=r"it offers: none, correct, incorrect, random"):
        dataset.prefix("dog/d1", "wrong")


def test_one_category_has_no_incorrect_name(tmp_path: Path) -> None:
    builders.spair(tmp_path)
    builders.write_text(tmp_path / "Layout/large/test.txt", LINES[0])
    with pytest.raises(UsageError, match=r"other than 'aeroplane'"):
        SPair71k(tmp_path).prefix("aeroplane/a1", "incorrect")


def test_unusable_pairs_are_named_and_counted(tmp_path: Path) -> None:
    builders.spair(tmp_path)
    folder = tmp_path / "PairAnnotation/test"
    (folder / f"{LINES[0]}.json").unlink()
    builders.write_text(folder / f"{LINES[1]}.json", '{"src_imname": ')
    builders.write_json(
        folder / f"{LINES[2]}.json", builders.pair_record("p1", "a1", "x", trg_kps=[[1, 2]])
    )
    dataset = SPair71k(tmp_path)
    assert [p.id for p in dataset.pairs()] == LINES[3:]
    assert [line.split("/")[-1].split(".json")[0] for line in dataset.skipped] == LINES[:3]
    assert "found nothing there" in dataset.skipped[0]
    assert "expected JSON" in dataset.skipped[1]
    assert "2 source and 1 target points" in dataset.skipped[2]
    assert not any("\n" in line for line in dataset.skipped)
    assert len(dataset.pairs()) == 1
    assert len(dataset.skipped) == 3  # counted anew, not twice


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"src_imname": "zz.jpg"}, "expected images d1, d2 as the list has, found zz, d2"),
        ({"trg_bndbox": [1, 2, 3]}, "expected trg_bndbox to be 4 numbers, found [1, 2, 3]"),
        ({"trg_bndbox": [5, 5, 5, 5]}, "expected trg_bndbox to be a box"),
        ({"src_bndbox": None}, "expected src_bndbox to be 4 numbers, found None"),
        (
            {"src_kps": [[1, None], [2, 3]]},
            "expected point 0 of src_kps to be a finite number, found None",
        ),
        ({"src_kps": [None, [2, 3]]}, "expected point 0 of src_kps to be 2 numbers, found None"),
        ({"src_kps": [[1, 2], [float("nan"), 3]]}, "found nan"),
        ({"trg_kps": [[1, 2], [float("inf"), 3]]}, "found inf"),
        ({"trg_kps": [[1, 2], [True, 3]]}, "found True"),
        ({"trg_kps": [[1, 2], [10**400, 3]]}, "to be a finite number"),
        (
            {"src_kps": [[-30, 100000], [2, 3]]},
            "expected src_kps inside 32 x 24 pixels, found (-30, 100000)",
        ),
        ({"src_kps": "points"}, "expected src_kps to be a list of points"),
        ({"src_imsize": [0, 24, 3]}, "expected src_imsize to be a width and a height in pixels"),
        ({"trg_imsize": [32.5, 24, 3]}, "expected trg_imsize to be a width and a height in pixels"),
        ({"trg_imsize": 32}, "expected trg_imsize to be 2 numbers, found 32"),
        ({"kps_ids": None}, "expected kps_ids to be a list, found None"),
        ({"kps_ids": [1.5, 2]}, "expected kps_ids to be a whole number, found 1.5"),
        ({"mirror": "yes"}, "expected mirror to be a whole number, found 'yes'"),
        ({"src_kps": [], "trg_kps": [], "kps_ids": []}, "expected as many source points"),
    ],
)
def test_odd_annotation(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    builders.spair(tmp_path)
    record = builders.pair_record("d1", "d2", "dog", **changes)
    builders.write_json(tmp_path / f"PairAnnotation/test/{LINES[3]}.json", record)
    dataset = SPair71k(tmp_path)
    assert len(dataset.pairs()) == 3
    assert message in dataset.skipped[0]


def test_missing_field_is_named(tmp_path: Path) -> None:
    builders.spair(tmp_path)
    path = tmp_path / f"PairAnnotation/test/{LINES[3]}.json"
    record = json.loads(path.read_text())
    del record["trg_kps"]
    builders.write_json(path, record)
    dataset = SPair71k(tmp_path)
    dataset.pairs()
    assert "expected the fields trg_kps, found src_imname" in dataset.skipped[0].replace(
        "pair_id, category, ", ""
    )


def test_no_usable_pair(tmp_path: Path) -> None:
    builders.spair(tmp_path)
    for path in (tmp_path / "PairAnnotation/test").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"no usable pair annotation; first problem: "):
        SPair71k(tmp_path).pairs()


def test_wrong_layout(tmp_path: Path) -> None:
    root = builders.spair(tmp_path / "outer/SPair-71k")
    with pytest.raises(
        DatasetError,
        match=rf"expected .* at Layout/large/test.txt, found SPair-71k/; did you mean {root}",
    ):
        SPair71k(tmp_path / "outer")
    with pytest.raises(DatasetError, match=rf"did you mean {root}"):
        SPair71k(root / "JPEGImages")
    with pytest.raises(
        DatasetError, match=r"at Layout/large/val.txt, found Layout/large/ with test.txt"
    ):
        SPair71k(root, "val")
    shutil.rmtree(root / "PairAnnotation")
    with pytest.raises(DatasetError, match=r"at PairAnnotation/test/, found JPEGImages/, Layout/"):
        SPair71k(root)


def test_malformed_list(tmp_path: Path) -> None:
    builders.spair(tmp_path)
    builders.write_text(tmp_path / "Layout/large/test.txt", f"{LINES[0]}\n000002-a1:dog\n")
    with pytest.raises(
        DatasetError,
        match=r"line 2: expected 000001-<source>-<target>:<category>, found '000002-a1:dog'",
    ):
        SPair71k(tmp_path).images()
    builders.write_text(tmp_path / "Layout/large/test.txt", "\n\n")
    with pytest.raises(DatasetError, match=r"found no line"):
        SPair71k(tmp_path).images()
