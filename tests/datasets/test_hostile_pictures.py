"""Hostile and odd pictures, folders and lists of them end in one line, in bounded memory."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets import Spec, open_dataset
from kvtool.datasets.base import ImageRef
from kvtool.datasets.files import by_stem, read_lines
from kvtool.datasets.folder import pictures_by_id
from kvtool.datasets.images import load_image
from kvtool.datasets.json_files import read_json, stream_json_list
from kvtool.datasets.masks import read_label_map
from kvtool.datasets.restricted_pickle import load_plain
from kvtool.errors import DatasetError, ImageError
from tests.support import datasets as builders
from tests.support.hub import POINTER


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
        offset = entries + 2 + 12 * index
        if struct.unpack_from("<H", data, offset)[0] in (256, 257):
            struct.pack_into("<HII", data, offset + 2, 4, 1, 13_000)
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
        pixels = load_image(ImageRef(name, tmp_path / name)).tobytes()
        with monkeypatch.context() as patch:
            patch.setattr("kvtool.datasets.images._BAND_PIXELS", 70)
            assert load_image(ImageRef(name, tmp_path / name)).tobytes() == pixels


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


def test_second_pictures_of_a_name_are_told(tmp_path: Path) -> None:
    for name in ("x.jpg", "x.png"):
        builders.picture(tmp_path / name)
    left_out: list[str] = []
    assert by_stem(tmp_path, left_out) == {"x": tmp_path / "x.jpg"}
    assert left_out == [
        f"{tmp_path}/x.png: a second picture of this name, x.jpg counts; remove one"
    ]
