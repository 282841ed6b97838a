"""The bytes of pictures, read once with the stamp that stands for them, and their digests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kvtool import digests
from kvtool.datasets import images
from kvtool.datasets.base import ImageRef
from kvtool.datasets.blink import Blink
from kvtool.datasets.images import decode, digest_pictures, load_image, picture_file, read_bytes
from kvtool.errors import ImageError
from tests.support import datasets as builders


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))


def test_plain_bytes_come_with_the_stamp_of_their_file(tmp_path: Path) -> None:
    path = builders.picture(tmp_path / "a.png")
    ref = ImageRef("a", path)
    data, stamp = read_bytes(ref)
    assert data == path.read_bytes()
    assert stamp == digests.quick_look(path)
    assert picture_file(ref) == path
    assert decode(ref, data).tobytes() == load_image(ref).tobytes()


def test_inner_bytes_come_with_the_stamp_of_their_container(tmp_path: Path) -> None:
    ref = Blink(builders.blink(tmp_path / "blink")).images()[3]
    data, stamp = read_bytes(ref)
    assert (
        picture_file(ref)
        == ref.container
        == tmp_path / "blink/Art_Style/val-00000-of-00001.parquet"
    )
    assert stamp == digests.quick_look(ref.container)
    assert decode(ref, data).size == load_image(ref).size
    assert read_bytes(ImageRef("x", read=lambda: b"y")) == (b"y", None)
    assert picture_file(ImageRef("x", read=lambda: b"y")) is None


def test_digests_of_plain_and_inner_pictures(tmp_path: Path) -> None:
    path = builders.picture(tmp_path / "a.png")
    inner = Blink(builders.blink(tmp_path / "blink")).images()
    refs = [
        ImageRef("a", path),
        *inner,
        ImageRef("gone", tmp_path / "gone.png"),
        ImageRef("x", read=lambda: b"y"),
    ]
    values = digest_pictures(refs)
    assert list(values) == [ref.id for ref in refs]
    assert values["gone"] == ""
    for ref in (refs[0], refs[4], refs[-1]):
        assert values[ref.id] == digests.digest_bytes(read_bytes(ref)[0])


def test_unchanged_containers_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_RACY_NS", -1)  # the files of this test are new
    root = builders.blink(tmp_path / "blink")
    first = digest_pictures(Blink(root).images())

    def refuse(ref: ImageRef) -> tuple[bytes, None]:
        raise AssertionError(f"{ref.id} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(images, "read_bytes", refuse)
        assert digest_pictures(Blink(root).images()) == first
    for path in root.glob("*/val*"):
        path.unlink()
    shutil.copy(next(root.glob("*/test*")), root / "Counting/val-00000-of-00001.parquet")
    changed = digest_pictures(Blink(root).images())
    assert changed
    assert not changed.keys() & first.keys()


def test_a_container_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    root = builders.blink(tmp_path / "blink")
    refs = Blink(root).images()
    path = refs[0].container
    assert path is not None
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        ImageError, match=r"the file changed while it was read; run the command again"
    ):
        read_bytes(refs[0])
    assert digest_pictures(refs)[refs[0].id] == ""
