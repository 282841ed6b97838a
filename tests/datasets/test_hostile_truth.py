"""Hostile and odd annotations and questions end in one line, and cost no more than themselves."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kvtool.datasets.blink import Blink
from kvtool.datasets.images import load_image
from kvtool.datasets.json_files import (
    name_of,
    read_json,
    read_json_lines,
    stream_json_list,
    text_of,
)
from kvtool.datasets.masks import read_binary, read_label_map, read_rgb, segmentation_mask
from kvtool.datasets.pope import Pope
from kvtool.datasets.restricted_pickle import load_plain
from kvtool.errors import DatasetError, ImageError
from tests.support import datasets as builders
from tests.support.hub import POINTER


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 2, float("nan"), 4, 30, 20]],
        [[1, 2, 1e9, 4, 30, 20]],
        [[1, 2, 1e18, 4, 30, 20]],
        [[1, 2, 10**400, 4, 30, 20]],
        [[-50, -50, 9000, -50, 9000, 9000]],
        [[1, 2, 30, 4, 30, 20, 9]],
        [["1", "2", "3", "4", "5", "6"]],
        [[0, 0, 32, 24] * 30_000],
        [1, 2, 3, 4, 5, 6],
        "polygon",
        None,
        {"size": [24, 32], "counts": [-1, 769]},
        {"size": [24, 32], "counts": [2**62, 2**62, 2**62, 2**62 + 768]},
        {"size": [24, 32], "counts": [768.5]},
        {"size": [24, 32], "counts": "o" * 1000},
        {"size": [24, 32], "counts": "\ud800"},
        {"size": [32, 24], "counts": [768]},
        {"counts": [768]},
    ],
)
def test_bad_segmentations_never_reach_c_code(segmentation: Any) -> None:
    with pytest.raises(DatasetError, match=r"^ann 5: expected") as caught:
        segmentation_mask(segmentation, 24, 32, "ann 5")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("height", "width"), [("24", 32), (0, 32), (10**6, 10**6), (True, 32)])
def test_sizes_of_masks_are_those_of_pictures(height: Any, width: Any) -> None:
    with pytest.raises(DatasetError, match=r"ann 5: expected a picture of at most 179 megapixels"):
        segmentation_mask([[1, 2, 3, 4, 5, 6]], height, width, "ann 5")


def test_masks_of_other_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "gs").write_text(f"#!/bin/sh\n: > {tmp_path}/called\n")
    (tmp_path / "gs").chmod(0o755)
    mask = tmp_path / "mask.png"
    mask.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for read in (read_label_map, read_rgb, read_binary):
        with pytest.raises(
            DatasetError, match=r"mask.png: expected a mask image, found: PostScript"
        ):
            read(mask)
    assert not (tmp_path / "called").exists()
    Image.new("L", (4, 4)).save(mask)
    with pytest.raises(DatasetError, match=r"expected a colour-coded map \(RGB\), found mode L"):
        read_rgb(mask)
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(mask)
    with pytest.raises(DatasetError, match=r"without transparency, found an alpha channel"):
        read_binary(mask)
    Image.fromarray(np.array([[0, 1], [256, 0]], np.uint16)).save(mask)
    assert read_binary(mask).tolist() == [[0, 1], [1, 0]]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02Nr\xff\xff\xff\x3f.",
        b"Np999999999\n.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        b"\x80\x03B\xff\xff\xff\xffx.",
        b"}N" + b"\x85" * 1_000_000 + b"Ns.",
        b"}N" + b"2\x86" * 100 + b"Ns.",
        b"(" + b"]" * 30_000_000 + b"l.",
        b"\x8a\xff" + b"\1" * 255 + b".",
    ],
)
def test_a_pickle_takes_no_more_than_its_file_accounts_for(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(code)
    with pytest.raises(DatasetError, match=r"refs.p: expected a pickle of plain lists and dicts"):
        load_plain(tmp_path / "refs.p")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_read(tmp_path: Path, protocol: int) -> None:
    value = [{"a": ["x" * n, n, -n, n / 7, None, True, b"y" * 300]} for n in range(500)]
    if protocol < 3:  # these keep bytes as a call
        value = [{"a": row["a"][:-1]} for row in value]
    (tmp_path / "v.p").write_bytes(pickle.dumps(value, protocol=protocol))
    assert load_plain(tmp_path / "v.p") == value


def test_texts(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    for data, message in (
        (b"[" * 100_000, "nested too deep"),
        (POINTER.encode(), "a git-lfs pointer, not the file"),
        ("[]".encode("utf-16"), "found UTF-16"),
    ):
        path.write_bytes(data)
        for read in (read_json, read_json_lines):
            with pytest.raises(DatasetError, match=message):
                read(path)
    path.write_bytes(b"[" + b"[" * 100_000)
    with pytest.raises(DatasetError, match=r"list.json: expected"):
        list(stream_json_list(path))
    path.write_bytes('\ufeff\ufeff{"a": "one\u2028line"}\n'.encode())
    assert read_json_lines(path) == [{"a": "one\u2028line"}]
    for value in ("\ud800", 3, None):
        with pytest.raises(DatasetError, match=r"line 1: expected text as"):
            text_of(value, "text", "line 1")
    for value in ("../a.jpg", "/etc/passwd", "a\0.jpg", "", 7):
        with pytest.raises(DatasetError, match=r"line 1: expected image as"):
            name_of(value, "image", "line 1")


def test_bad_questions_are_left_out_and_named(tmp_path: Path) -> None:
    root = builders.pope(tmp_path / "pope")
    good: dict[str, Any] = {
        "question_id": 1,
        "image": "COCO_val2014_000000000042.jpg",
        "text": "?",
        "label": "yes",
    }
    bad: list[dict[str, Any]] = [
        {"image": 7},
        {"image": "../x.jpg"},
        {"text": "\ud800"},
        {"label": float("nan")},
        {"question_id": [1]},
        {},
    ]
    records = [good, *({**good, **change} for change in bad)]
    builders.write_json(root / "coco_pope_random.json", records)
    dataset = Pope(root)
    assert [question.id for question in dataset.questions() if question.group == "random"] == [
        "random/1"
    ]
    assert len(dataset.skipped) == len(bad)


def test_parquet_of_the_hubs_conversion_and_bad_rows(tmp_path: Path) -> None:
    root = builders.blink(tmp_path / "blink")
    expected = Blink(root).questions()
    for path in list(root.glob("*/val-*.parquet")):
        (path.parent / "val").mkdir()
        path.rename(path.parent / "val/0000.parquet")
    assert Blink(root).questions() == expected
    rows = builders.blink_rows("Counting", "val")
    rows[1]["question"] = None
    builders.parquet(tmp_path / "odd/val-0.parquet", rows, ["image_1"])
    dataset = Blink(tmp_path / "odd")
    assert len(dataset.questions()) == 4
    assert "val-0.parquet: row 1: expected question as a text, found None" in dataset.skipped[0]


def test_damaged_parquet_is_one_line(tmp_path: Path) -> None:
    path = next(builders.blink(tmp_path / "blink").glob("Counting/val-*"))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        data = bytearray(content)
        for offset in rng.integers(0, len(data), 5):
            data[offset] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            for ref in Blink(path.parent).images():
                load_image(ref)
        except (DatasetError, ImageError) as error:
            messages.append(str(error))
    assert messages
    assert not any("\n" in message for message in messages)
    path.write_text(POINTER)
    with pytest.raises(DatasetError, match=r"a git-lfs pointer"):
        Blink(path.parent).images()
    path.write_bytes(content)
    assert pq.read_table(path).num_rows == len(Blink(path.parent).questions())
