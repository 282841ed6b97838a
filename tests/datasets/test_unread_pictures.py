"""Pictures without a suffix, of formats that are not read, are named: nobody would miss them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.datasets import open_dataset
from tests.support import datasets as builders

SVG = (
    b'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
    b'<!-- Created with Inkscape (http://www.inkscape.org/) -->\n\n<svg width="9"/>'
)
HEADS = {
    "HEIC/HEIF": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50),
    "SVG": SVG,
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "Photoshop": b"8BPS" + bytes(50),
    "PDF": b"%PDF-1.7\n",
}


@pytest.mark.parametrize("format_name", HEADS)
@pytest.mark.parametrize("name", ["IMG_0001", "photo.large"])
def test_a_picture_of_another_format_is_named(tmp_path: Path, format_name: str, name: str) -> None:
    builders.picture(tmp_path / "plain.png")
    (tmp_path / name).write_bytes(HEADS[format_name])
    dataset = open_dataset(f"folder:{tmp_path}")
    assert [ref.id for ref in dataset.images()] == ["plain.png"]
    assert dataset.skipped == [
        f"{tmp_path / name}: {format_name}, a format that kvtool does not read"
    ]


def test_what_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    builders.picture(tmp_path / "plain.png")
    for number, head in enumerate((b"", b"PK\3\4", b"<!doctype html><html>", b"text")):
        (tmp_path / f"file{number}").write_bytes(head)
    assert open_dataset(f"folder:{tmp_path}").skipped == []
