"""How NAME[:PATH][@SPLIT] is read, and what the table of data sets says."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from kvtool.datasets import DATASETS, Spec, list_datasets, open_dataset, parse_spec
from kvtool.datasets.base import PREFIX_CONDITIONS
from kvtool.errors import DatasetError, KvtoolError, UsageError
from tests.support import datasets as builders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spair71k:/data/SPair-71k@test", Spec("spair71k", "/data/SPair-71k", "test")),
        ("spair71k:/data/SPair-71k", Spec("spair71k", "/data/SPair-71k")),
        ("spair71k:/data/v@2/SPair-71k", Spec("spair71k", "/data/v@2/SPair-71k")),
        ("spair71k:/data/v@2/SPair-71k@val", Spec("spair71k", "/data/v@2/SPair-71k", "val")),
        ("spair71k:a:b@c/d", Spec("spair71k", "a:b@c/d")),
        ("spair71k@test", Spec("spair71k", None, "test")),
        ("folder:-", Spec("folder", "-")),
        ("folder:/me@home", Spec("folder", "/me@home")),
        ("folder:C:me@x/y", Spec("folder", "C:me@x/y")),
    ],
)
def test_parse(text: str, expected: Spec) -> None:
    assert parse_spec(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spare71k:/x", "did you mean 'spair71k'"),
        ("", "unknown name ''"),
        ("spair71k:", "write spair71k:PATH"),
        ("spair71k:/data/nowhere@tset", "unknown split 'tset'; spair71k has: test, val, trn"),
        ("spair71k@tset", "unknown split 'tset'"),
        ("folder:@x", None),
    ],
)
def test_bad_spec(text: str, message: str | None) -> None:
    if message is None:
        assert parse_spec(text) == Spec("folder", "@x")
        return
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_existing_path_with_an_at_sign_is_a_path(tmp_path: Path) -> None:
    builders.spair(tmp_path / "me@lab")
    dataset = open_dataset(f"spair71k:{tmp_path}/me@lab")
    assert dataset.root == tmp_path / "me@lab"
    assert open_dataset(f"spair71k:{tmp_path}/me@lab@test").root == tmp_path / "me@lab"


@pytest.mark.parametrize("name", [n for n in DATASETS.names() if n not in ("folder", "scenes")])
def test_every_dataset_describes_itself_and_refuses_wrong_places(name: str, tmp_path: Path) -> None:
    description = DATASETS.load(name).about
    assert description.name == name
    assert all(
        (
            description.title,
            description.splits or description.is_sampled,
            description.layout,
            description.source,
            description.licence,
        )
    )
    assert set(description.conditions) <= set(PREFIX_CONDITIONS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for path in ("absent", "empty", "file"):
        with pytest.raises(DatasetError) as caught:
            open_dataset(f"{name}:{tmp_path}/{path}").images()
        assert str(caught.value).startswith(f"{name}: {tmp_path}/{path}: expected ")
        assert "found" in str(caught.value)
        assert "\n" not in str(caught.value)
    for spec in (name, f"{name}:-"):
        with pytest.raises(UsageError, match=rf"write {name}:PATH"):
            open_dataset(spec)


def test_the_table_lists_all() -> None:
    assert [description.name for description in list_datasets()] == DATASETS.names()


def test_folder_lists_images_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.png", "a.webp", ".hidden/x.png", "b/._2.jpg"):
        builders.picture(tmp_path / name)
    (tmp_path / "b/notes.txt").write_text("no image")
    (tmp_path / "b/broken.jpg").write_bytes(b"")  # listed: loading it is what fails, and is counted
    (tmp_path / "loop").symlink_to(tmp_path)
    dataset = open_dataset(f"folder:{tmp_path}")
    assert [ref.id for ref in dataset.images()] == ["a.webp", "b/10.png", "b/2.JPG", "b/broken.jpg"]
    assert dataset.images()[1].path == tmp_path / "b/10.png"
    assert (dataset.texts(), dataset.tasks, dataset.split) == ((), (), "")
    assert dataset.prefix("a.webp", "none") == ""
    assert "croissants" in dataset.prefix("a.webp", "random")
    with pytest.raises(UsageError, match=r"it offers: none, random"):
        dataset.prefix("a.webp", "correct")


def test_linked_folder_is_followed(tmp_path: Path) -> None:
    builders.picture(tmp_path / "elsewhere/1.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/link").symlink_to(tmp_path / "elsewhere")
    assert [ref.id for ref in open_dataset(f"folder:{tmp_path}/set").images()] == ["link/1.png"]


def test_folder_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for spec, message in (
        (f"folder:{tmp_path}", "expected images below this folder, found none"),
        (f"folder:{tmp_path}/absent", "expected a folder, found nothing there"),
        (f"folder:{tmp_path}/notes.txt", "expected a folder, found a file"),
        (f"folder:/{'long' * 2000}", "found that it cannot be read: File name too long"),
        (f"spair71k:/{'long' * 2000}@x", "unknown split 'x'"),
        ("folder:~no-such-user/images", "write the path in full"),
        ("folder", "expected a path"),
    ):
        with pytest.raises(KvtoolError, match=message):
            open_dataset(spec)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    builders.picture(tmp_path / "ok.png").rename(tmp_path / "\udcff.png")
    with pytest.raises(
        DatasetError, match=r"found none that can be read: .*\\xff.png: a name that is not UTF-8"
    ):
        open_dataset(f"folder:{tmp_path}")
    builders.picture(tmp_path / "good.png")
    dataset = open_dataset(f"folder:{tmp_path}")
    assert [ref.id for ref in dataset.images()] == ["good.png"]
    assert dataset.skipped == [f"{tmp_path}/\\xff.png: a name that is not UTF-8; rename it"]


def test_paths_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.stdin", StringIO("b c.png\n\n  \na/x.jpg\r\n./b c.png\na//x.jpg\nlast.png")
    )
    images = open_dataset("folder:-").images()
    assert [ref.id for ref in images] == ["b c.png", "a/x.jpg", "last.png"]
    assert images[1].path == Path("a/x.jpg")
    monkeypatch.setattr("sys.stdin", StringIO(" \n\n"))
    with pytest.raises(DatasetError, match=r"expected image paths, one a line, found none"):
        open_dataset("folder:-")


def test_a_missing_file_is_one_line_whatever_the_names_beside_it_are(tmp_path: Path) -> None:
    """What is there instead is listed, and a name may hold line breaks."""
    (tmp_path / "broken\nname").mkdir()
    with pytest.raises(DatasetError, match="expected") as caught:
        open_dataset(f"davis:{tmp_path}")
    assert "broken" in str(caught.value)
    assert "\n" not in str(caught.value)
