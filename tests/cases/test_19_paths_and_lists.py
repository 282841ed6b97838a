"""Folders, lists and files of texts with names and bytes as people's disks have them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cases.outcomes import refusal, rows, told
from tests.support.shell import Outcome, Shell

Extract = Callable[..., Outcome]
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


@pytest.fixture
def extract(
    shell: Shell, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Extract:
    """Extract a data set into a new store, from the folder in which it lies."""
    monkeypatch.chdir(tmp_path)
    number = iter(range(100))

    def run(*words: str, store: str = "") -> Outcome:
        target = store or f"{next(number)}.kv"
        return shell(
            "-q", "extract", target, "--model", tiny_model, "--kinds", "vision", "--dataset", *words
        )

    return run


@pytest.fixture
def picture(photos: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A picture at a place below the folder of the test."""

    def put(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(photos / "p0.png", path))

    return put


Picture = Callable[[str], Path]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["a b@test", "[red]old[/red]", "tab\there", "-dash", "ünï", "e:colon", "end/", "größe [x]"],
)
def test_odd_names_of_folders(extract: Extract, picture: Picture, name: str) -> None:
    picture(f"{name.rstrip('/')}/-ñ.png")
    assert rows(extract(f"folder:{name}"))[0]["extracted"] == 1


@pytest.mark.slow
def test_a_name_that_is_not_utf8_is_left_out(extract: Extract, picture: Picture) -> None:
    picture("mixed/good.png")
    picture(f"mixed/{NOT_UTF8}")
    outcome = extract("folder:mixed")
    told(outcome, 4, r"caf\xe9.png", "not UTF-8")
    assert json.loads(outcome[1])["extracted"] == 1


def test_a_folder_of_another_format_says_so(extract: Extract, picture: Picture) -> None:
    for i in range(3):
        picture(f"phone/IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    assert "HEIC/HEIF, a format that kvtool does not read" in refusal(extract("folder:phone"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may")
def test_a_picture_that_may_not_be_read(extract: Extract, picture: Picture) -> None:
    picture("closed/x.png")
    picture("closed/y.png").chmod(0)
    told(extract("folder:closed"), 4, "y.png")


@pytest.mark.slow
def test_places_that_are_no_folder(extract: Extract, picture: Picture, tmp_path: Path) -> None:
    picture("pics/p0.png")
    shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "pics")
    for name in ("folder", "spair71k", "refcoco", "pope"):
        assert "found an archive; unpack it first" in refusal(extract(f"{name}:data.zip"))
    assert "found nothing there; check the path" in refusal(extract("folder:nowhere"))
    assert "unknown name 'pics'" in refusal(extract("pics"), 2)


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.slow
def test_lists_of_paths(
    extract: Extract, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("pics/p0.png")
    picture("pics/p1.png")
    give(monkeypatch, b"pics/p0.png\r\npics/p0.png\r\n\r\npics/p1.png")
    assert rows(extract("folder:-"))[0]["extracted"] == 2
    give(monkeypatch, b"pics/p0.png\0pics/p1.png\0")
    assert "found NUL bytes; use find without -print0" in refusal(extract("folder:-"))
    give(monkeypatch, b"")
    assert "found none; nothing to do" in refusal(extract("folder:-"), 1)
    give(monkeypatch, b"caf\xe9.png\npics/p0.png\n")
    outcome = extract("folder:-")
    told(outcome, 4, r"caf\xe9.png")
    assert json.loads(outcome[1])["extracted"] == 1


TEXTS: dict[str, tuple[bytes, str]] = {
    "as documented": (b"image,text\np0.png,a dog\np1.png,a cat\n", ""),
    "from Windows": (
        '\ufeffimage,text\r\np0.png,a dog\r\np1.png,"a, ""big"" cat"\r\n'.encode(),
        "",
    ),
    "semicolons": (
        b"image;text\np0.png;a dog\n",
        "expected the columns image and text, found image;text",
    ),
    "tabs": (b"image\ttext\np0.png\ta dog\n", "expected the columns image and text"),
    "twice": (
        b"image,text\np0.png,a dog\np0.png,a cat\np1.png,a cat\n",
        "line 3: expected one text an image",
    ),
    "no header": (b"p0.png,a dog\np1.png,a cat\n", "line 1: expected the columns image and text"),
    "UTF-16": ("image,text\np0.png,a dog\n".encode("utf-16"), "expected UTF-8"),
    "capitals": (b"Image,Text\np0.png,a dog\np1.png,a cat\n", ""),
    "spaces": (b"image, text\np0.png, a dog\np1.png, a cat\n", ""),
    "NUL": (b"image,text\np0.png,a\0dog\np1.png,x\n", ""),
    "Latin-1": ("image,text\np0.png,café\np1.png,x\n".encode("latin-1"), "expected UTF-8"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", TEXTS)
def test_files_of_texts(extract: Extract, picture: Picture, tmp_path: Path, case: str) -> None:
    picture("pics/p0.png")
    picture("pics/p1.png")
    content, words = TEXTS[case]
    (tmp_path / "texts.csv").write_bytes(content)
    outcome = extract(
        "folder:pics", "--kinds", "value", "--layers", "0", "--prefix", "file:texts.csv"
    )
    if words:
        line = refusal(outcome, 2)
        assert "texts.csv" in line
        assert words in line
    else:
        assert rows(outcome)[0]["extracted"] == 2


@pytest.mark.slow
def test_odd_places_of_stores(extract: Extract, shell: Shell, picture: Picture) -> None:
    content = picture("pics/p0.png").read_bytes()
    picture("s p/x")
    store = "s p/größe [x].kv"
    assert rows(extract("folder:pics", store=store))[0]["extracted"] == 1
    code, out, _ = shell("store", "info", store, "--format", "table")
    assert code == 0
    assert "[x]" in out
    Path("file").write_text("x")
    assert "file" in refusal(extract("folder:pics", store="file"))
    assert "pics" in refusal(extract("folder:pics", store="pics"))
    assert Path("pics/p0.png").read_bytes() == content
    assert [path.name for path in Path("pics").iterdir()] == ["p0.png"]


@pytest.mark.slow
def test_a_store_inside_its_folder(extract: Extract, picture: Picture) -> None:
    """Its own pictures are none of the folder's."""
    picture("p0.png")
    for extracted in (1, 0):
        (row,) = rows(extract("folder:.", store="in.kv"))
        assert (row["images"], row["extracted"]) == (1, extracted)
