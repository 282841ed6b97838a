"""Hostile and odd files end in one line, in bounded memory, and cost no more than themselves."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kvtool.datasets import Spec, open_dataset
from kvtool.datasets.base import ImageRef
from kvtool.datasets.blink import Blink
from kvtool.datasets.files import by_stem, read_lines
from kvtool.datasets.folder import pictures_by_id
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

POINTER = (
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + "ab" * 32 + "\nsize 987654321\n"
)


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        load_image(ImageRef(path.name, path))
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_only_regular_files_are_pictures_masks_and_lists(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    (tmp_path / "memory.png").symlink_to("/proc/self/mem")
    (tmp_path / "null.png").symlink_to("/dev/null")
    for name in ("fifo.png", "null.png"):
        assert "not a regular file" in refused(tmp_path / name)
    refused(tmp_path / "memory.png")
    for read in (
        read_label_map,
        read_lines,
        read_json,
        load_plain,
        lambda path: list(stream_json_list(path)),
    ):
        with pytest.raises(DatasetError, match=r"fifo.png: expected .* found"):
            read(fifo)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "pointer.png",
            POINTER.encode(),
            "a git-lfs pointer, not the picture; fetch it: git lfs pull",
        ),
        (
            "phone.jpg",
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
            "HEIC/HEIF, which kvtool does not read",
        ),
        (
            "drawing",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "SVG, which kvtool does not read",
        ),
        ("paper.png", b"%PDF-1.4\n", "PDF, which kvtool does not read"),
        ("photo.cr3", b"\0\0\0\x18ftypcrx ", "a camera's raw format, which kvtool does not read"),
        ("page.jpg", b"<!doctype html><html></html>", "a web page, which kvtool does not read"),
    ],
)
def test_formats_that_are_not_read_are_named(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    message = refused(tmp_path / name)
    assert reason in message
    assert "remove it" not in message


def test_the_preview_of_a_raw_photograph_is_not_its_picture(tmp_path: Path) -> None:
    Image.new("RGB", (16, 12)).save(tmp_path / "preview.tif")
    (tmp_path / "preview.tif").rename(tmp_path / "photo.dng")
    assert "a camera's raw format" in refused(tmp_path / "photo.dng")


def test_any_exception_of_a_decoder_is_that_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = builders.picture(tmp_path / "a.png")
    for error in (RuntimeError("damaged"), MemoryError(), RecursionError("deep")):

        def fail(*_: Any, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "load", fail)
            patch.setattr("PIL.ImageFile.ImageFile.load", fail)
            assert "broken or truncated" in refused(path)


def test_memory_is_bounded_by_what_decoding_takes(tmp_path: Path) -> None:
    """169 megapixels are few enough for grey, and too many for floats or a claim inside JPEG
    2000.
    """
    header = io.BytesIO()
    Image.new("F", (4, 4)).save(header, "TIFF")
    data = bytearray(header.getvalue())
    entries = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, entries)[0]):
        place = entries + 2 + 12 * index
        if struct.unpack_from("<H", data, place)[0] in (256, 257):
            struct.pack_into("<HII", data, place + 2, 4, 1, 13_000)
    (tmp_path / "float.tif").write_bytes(data)
    assert "take 1.4 GB to decode, more than the limit of 1.2 GB" in refused(tmp_path / "float.tif")
    Image.new("RGB", (64, 64)).save(tmp_path / "small.jp2")
    data = bytearray((tmp_path / "small.jp2").read_bytes())
    struct.pack_into(">II", data, data.index(b"\xff\x4f\xff\x51") + 8, 60_000, 60_000)
    (tmp_path / "lying.jp2").write_bytes(data)
    assert "60000 x 60000 pixels: more than the limit" in refused(tmp_path / "lying.jp2")


def test_bands_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 30, 4), np.uint8), "RGBA").save(
        tmp_path / "alpha.png"
    )
    Image.fromarray(rng.normal(size=(40, 30)).astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("alpha.png", "float.tif"):
        whole = load_image(ImageRef(name, tmp_path / name)).tobytes()
        with monkeypatch.context() as patch:
            patch.setattr("kvtool.datasets.images._BAND_PIXELS", 70)
            assert load_image(ImageRef(name, tmp_path / name)).tobytes() == whole


def test_folder_takes_what_is_a_picture(tmp_path: Path) -> None:
    picture = builders.picture(tmp_path / "plain.png").read_bytes()
    for name in ("saved.jfif", "photo.jpg_large", "noextension", "plain.jpg"):
        (tmp_path / name).write_bytes(picture)
    for name in (
        ".DS_Store",
        "._plain.png",
        "Thumbs.db",
        "notes.txt",
        "film.mp4",
        "README",
        "plain.png~",
    ):
        (tmp_path / name).write_bytes(b"x")
    for name in ("phone.heic", "phone.HEIF", "vector.svg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "lost").symlink_to("nowhere")
    builders.picture(tmp_path / "store.kv/pictures/a.png")
    (tmp_path / "store.kv/zarr.json").write_text("{}")
    os.mkfifo(tmp_path / "fifo")
    dataset = open_dataset(Spec("folder", str(tmp_path), ""))
    assert [ref.id for ref in dataset.images()] == [
        "noextension", "photo.jpg_large", "plain.jpg", "plain.png", "saved.jfif",
    ]  # fmt: skip
    assert sorted(line.rpartition("/")[2] for line in dataset.skipped if "HEI" not in line) == [
        "lost: a link that cannot be followed: No such file or directory",
        "vector.svg: SVG, a format that kvtool does not read",
    ]
    assert (
        sum("HEIC/HEIF, a format that kvtool does not read" in line for line in dataset.skipped)
        == 2
    )


def test_folders_without_a_picture_say_why(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(
        DatasetError, match=r"none that can be read: .*IMG_1.HEIC: HEIC/HEIF, a format"
    ):
        open_dataset(f"folder:{tmp_path}")
    (tmp_path / "data.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DatasetError, match=r"found an archive; unpack it first"):
        open_dataset(f"folder:{tmp_path}/data.zip")


def test_lists_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    give(b"a.png\0b.png\0")
    with pytest.raises(DatasetError, match=r"found NUL bytes; use find without -print0"):
        open_dataset("folder:-")
    give(b"caf\xe9.png\nb.png\n")
    dataset = open_dataset("folder:-")
    assert [ref.id for ref in dataset.images()] == ["b.png"]
    assert dataset.skipped == ["caf\\xe9.png: a name that is not UTF-8; rename it"]


def test_pictures_of_a_list_are_found_below_a_folder(tmp_path: Path) -> None:
    path = builders.picture(tmp_path / "pics/a.png")
    for name in ("pics/a.png", "./data/pics/a.png", "/elsewhere/pics/a.png"):
        assert pictures_by_id(tmp_path, [name]) == [ImageRef(name, path)]
    assert pictures_by_id(tmp_path, ["b.png"])[0].path == tmp_path / "b.png"


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
    for data, said in (
        (b"[" * 100_000, "nested too deep"),
        (POINTER.encode(), "a git-lfs pointer, not the file"),
        ("[]".encode("utf-16"), "found UTF-16"),
    ):
        path.write_bytes(data)
        for read in (read_json, read_json_lines):
            with pytest.raises(DatasetError, match=said):
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


def test_second_pictures_of_a_name_are_told(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png"):
        builders.picture(tmp_path / name)
    left_out: list[str] = []
    assert by_stem(tmp_path, left_out) == {"x": tmp_path / "x.jpg"}
    assert left_out == [
        f"{tmp_path}/x.png: a second picture of this name, x.jpg counts; remove one"
    ]


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
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 5):
            data[place] ^= 1 << int(rng.integers(8))
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
    path.write_bytes(whole)
    assert pq.read_table(path).num_rows == len(Blink(path.parent).questions())
