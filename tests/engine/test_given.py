"""Extraction of what is given in Python: paths, pictures in memory, any data set's
object.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.datasets.base import ImageRef
from kvtool.datasets.davis import Davis
from kvtool.datasets.given import Given, picture_bytes
from kvtool.datasets.identity import dataset_of
from kvtool.datasets.images import load_image
from kvtool.datasets.own import Own
from kvtool.errors import ChangedError, ImageError, UsageError
from kvtool.store import open_store
from tests.engine.pictures import SMALL, pictures
from tests.support import datasets as builders


def values(store: Path, run: str) -> dict[str, bytes]:
    opened = open_store(store).run(run)
    return {name: opened.read_image(name, raw=True)["value"].tobytes() for name in opened.ids}


@pytest.mark.slow
def test_a_list_of_paths_is_the_same_run_as_their_lines(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [builders.picture(tmp_path / f"{n}.png", seed=n) for n in range(3)]
    store = tmp_path / "s.kv"
    first = kvtool.extract(store, model=model, dataset=[paths[0], str(paths[1])], **SMALL)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{path}\n" for path in paths)))
    second = kvtool.extract(store, model=model, dataset="folder:-", **SMALL)
    third = kvtool.extract(store, model=model, dataset=paths, **SMALL)
    assert first.run == second.run == third.run
    assert (first.n_done, second.n_before, second.n_done, third.n_before, third.n_done) == (
        2,
        2,
        1,
        3,
        0,
    )
    assert "list" in first.run
    builders.picture(paths[1], seed=9)
    with pytest.raises(ChangedError, match="1 picture changed"):
        kvtool.extract(store, model=model, dataset=paths, **SMALL)


@pytest.mark.slow
def test_pictures_in_memory_hold_what_their_files_would(tmp_path: Path, model: str) -> None:
    images = pictures(3)
    for number, picture in enumerate(images):
        (tmp_path / "files").mkdir(exist_ok=True)
        picture.save(tmp_path / f"files/{number}.png")
    store = tmp_path / "s.kv"
    report = kvtool.extract(store, model=model, dataset=images[:2], **SMALL)
    again = kvtool.extract(store, model=model, dataset=images, **SMALL)
    assert (report.run, again.n_before, again.n_done) == (again.run, 2, 1)
    assert kvtool.extract(store, model=model, dataset=images, **SMALL).n_done == 0
    files = kvtool.extract(store, model=model, dataset=f"folder:{tmp_path}/files", **SMALL)
    assert values(store, again.run) == {
        name.removesuffix(".png"): value for name, value in values(store, files.run).items()
    }
    with pytest.raises(ChangedError, match=r"2 pictures changed \(0, 1\)"):
        kvtool.extract(store, model=model, dataset=pictures(2, first=7), **SMALL)
    second = kvtool.extract(store, model=model, dataset=pictures(2, first=7), run="other", **SMALL)
    assert (second.run, second.n_done) == ("other", 2)
    with pytest.raises(
        UsageError, match="from pictures in memory; give the folder of folder with --data"
    ) as caught:
        dataset_of(open_store(store).run("other"))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_pictures_in_memory_go_to_several_workers(tmp_path: Path, model: str) -> None:
    first, second = tmp_path / "one.kv", tmp_path / "two.kv"
    run = kvtool.extract(first, model=model, dataset=pictures(3), **SMALL).run
    report = kvtool.extract(
        second, model=model, dataset=pictures(3), **{**SMALL, "devices": ("cpu", "cpu")}
    )
    assert (report.n_done + report.n_by_others, report.failed) == (3, {})
    assert values(second, report.run) == values(first, run)


def test_pictures_that_cannot_travel_are_refused(tmp_path: Path, model: str) -> None:
    dataset = Given([ImageRef("a", read=lambda: b"")])
    with pytest.raises(UsageError, match="can be sent to the workers of several devices"):
        kvtool.extract(
            tmp_path / "s.kv", model=model, dataset=dataset, **{**SMALL, "devices": ("cpu", "cpu")}
        )
    assert not (tmp_path / "s.kv").exists()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_modes_in_memory_follow_the_rules_of_files(mode: str) -> None:
    picture = Image.fromarray(np.arange(12 * 16, dtype=np.uint8).reshape(12, 16))
    picture = picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
    read = load_image(ImageRef("a", read=lambda: picture_bytes(picture, "a")))
    assert (read.mode, read.size) == ("RGB", (16, 12))
    assert picture_bytes(picture, "a") == picture_bytes(picture.copy(), "a")


def test_a_picture_in_memory_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture_bytes(picture, "a").startswith(b"P6\n24 32\n")


@pytest.mark.slow
def test_a_picture_that_cannot_be_read_any_more_fails_alone(tmp_path: Path, model: str) -> None:
    path = builders.picture(tmp_path / "a.png", 320, 240)
    path.write_bytes(path.read_bytes()[:5000])
    with Image.open(path) as damaged:
        report = kvtool.extract(
            tmp_path / "s.kv", model=model, dataset=[*pictures(1), damaged], **SMALL
        )
    assert report.n_done == 1
    (failure,) = report.failed.values()
    assert failure.id == "1"
    assert "\n" not in failure.reason


@pytest.mark.slow
def test_an_open_data_set_and_a_strangers_object(tmp_path: Path, model: str) -> None:
    store = tmp_path / "s.kv"
    root = builders.own(tmp_path / "own", per_class=1)
    by_spec = kvtool.extract(store, model=model, dataset=f"own:{root}", **SMALL)
    assert (
        kvtool.extract(store, model=model, dataset=Own(root), **SMALL).n_before == by_spec.n_images
    )
    davis = Davis(builders.davis(tmp_path / "davis"))
    assert kvtool.extract(store, model=model, dataset=davis, **SMALL).n_done == 12
    report = kvtool.extract(store, model=model, dataset=Strange(root / "images"), **SMALL)
    assert (report.n_done, report.run.split("-")[-3:-1]) == (2, ["strange", "night"])
    assert kvtool.extract(store, model=model, dataset=Strange(root / "images"), **SMALL).n_done == 0
    with pytest.raises(UsageError, match="is over strange, which cannot serve co-segmentation"):
        kvtool.probe(open_store(store).run(report.run), "co-segmentation")


class Strange:
    """A data set that derives from nothing of kvtool."""

    name, split, tasks = "strange", "night", ()

    def __init__(self, root: Path) -> None:
        self.root: Path | None = root

    def images(self) -> Sequence[ImageRef]:
        assert self.root is not None
        return [ImageRef(path.stem, path) for path in sorted(self.root.iterdir())]

    def present(self) -> Sequence[ImageRef]:
        return self.images()

    def left_out(self, limit: int) -> list[str]:
        del limit
        return []

    def texts(self) -> Sequence[str]:
        return ()

    def truth_files(self) -> Sequence[Path]:
        return ()

    def truth_digest(self) -> str:
        return "0" * 32

    def prefix(self, image_id: str, condition: str) -> str:
        return "" if condition == "none" else image_id


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "expected at least one picture, found an empty list"),
        ([Image.new("RGB", (2, 2)), "a.png"], "found str at 1"),
        ([3], "found int at 0"),
        (3, "expected a text such as folder:PATH, a list of paths"),
        (None, "found NoneType"),
        ({"a": 1}, "found dict"),
        (Path("a"), "found PosixPath"),
    ],
)
def test_what_can_be_no_data_set(tmp_path: Path, dataset: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        kvtool.extract(tmp_path / "s.kv", model="m", dataset=dataset)
    assert not (tmp_path / "s.kv").exists()


def test_damage_in_memory_is_one_line() -> None:
    class Broken(Image.Image):
        def getexif(self) -> Any:
            raise RuntimeError("two\nlines")

    with pytest.raises(
        ImageError, match="a: expected a picture, found that it cannot be read: two lines"
    ):
        picture_bytes(Broken(), "a")
