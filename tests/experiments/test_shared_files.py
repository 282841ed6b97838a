"""Files made to be shared name no folder of this machine, no user and no host; and pictures of a
list in `show`.
"""

from __future__ import annotations

import html
import io
import json
import re
import shlex
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import escape
from PIL import Image

import kvtool
from kvtool.errors import KvtoolError
from kvtool.reporting.plots import plot
from kvtool.store.places import folder_name, without_places
from tests.support.planted import NOISY, planted_model, planted_pope
from tests.support.tasks import semantic_correspondence as spair

USER, HOST = "telltaleuser", "telltalehost"
TELLTALES = (b"telltale", USER.encode(), HOST.encode())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose path, home, user and host tell whose they are."""
    folder = tmp_path / USER / "telltale-secret"
    folder.mkdir(parents=True)
    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr("platform.node", lambda: HOST)
    return folder


def contents(path: Path) -> Iterator[bytes]:
    """The raw bytes of a file, and what its PDF streams and its PNG's text chunks hold."""
    data = path.read_bytes()
    yield data
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL):
        try:
            yield zlib.decompress(stream)
        except zlib.error:
            yield stream
    if path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
            yield repr(picture.info).encode()


def assert_tells_nothing(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        for data in contents(path):
            assert not [word for word in TELLTALES if word in data.lower()], path


@pytest.mark.slow
def test_no_such_file_tells_where_it_was_made(folder: Path, tmp_path: Path) -> None:
    model, out = planted_model(folder / "model"), tmp_path / "out"
    pope = planted_pope(folder / "pope", 4)
    data = spair.write_spair(folder / "spair")
    store = folder / "s.kv"
    kvtool.extract(store, model=str(model), dataset=f"spair71k:{data}", kinds=("key", "value"))
    run = kvtool.open(store).run()
    out.mkdir()
    result = kvtool.probe(run, "semantic-correspondence", save_predictions=out / "predictions")
    assert "telltale" in json.dumps(result.to_json()), "what a command prints keeps paths"
    for suffix in ("png", "svg", "pdf"):
        plot(result, out / f"probe.{suffix}")
    kvtool.show(run, run.ids[:2], out / "maps.png")
    kvtool.show(run, run.ids[:2], out / "pairs.png", task="semantic-correspondence")
    knockout = kvtool.knockout(
        store,
        f"pope:{pope}",
        sorted(NOISY),
        max_new_tokens=1,
        answers=out / "answers.jsonl",
        official=out / "official",
    )
    plot(knockout, out / "knockout.svg")
    kvtool.report(store, out / "page.html")
    index = json.loads((out / "predictions" / "predictions.json").read_text())
    assert index["config"]["model"] == "model"
    assert_tells_nothing(out)


def test_the_search_would_find_it(tmp_path: Path) -> None:
    """In plain text, in a stream of a PDF, and in a text chunk of a PNG."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Author", USER, zip=True)
    files: dict[str, Any] = {
        "a.json": f"/home/{USER}/x".encode(),
        "a.pdf": b"stream\n" + zlib.compress(HOST.encode()) + b"\nendstream",
    }
    for name, data in files.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
    (tmp_path / "png").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "png" / "a.png", pnginfo=info)
    for name in (*files, "png"):
        with pytest.raises(AssertionError):
            assert_tells_nothing(tmp_path / name)


def test_a_folder_keeps_its_name_and_home_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    paths = {"/home/alice", "/home/alice/data/voc", "/mnt/möbel"}
    text = 'in /home/alice/data/voc and /home/alice/x, "/mnt/m\\u00f6bel"'
    assert without_places(text, paths) == 'in voc and ~/x, "möbel"'
    # A name stays as its surroundings spell it.
    path = '/mnt/it\'s <b> & "c".kv'
    for spell in (html.escape, escape, json.dumps, htmlsafe_json_dumps):
        for quote in (str, shlex.quote):
            spelling = str(spell(quote(path)))
            assert without_places(spelling, [path]) == str(spell(quote(Path(path).name)))
    assert (folder_name("/a/b"), folder_name("org/name")) == ("b", "org/name")


@pytest.mark.slow
def test_pictures_of_a_list_are_found_where_they_are_now(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, now = tmp_path / "first", tmp_path / "now"
    first.mkdir()
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (40, 40), colour).save(first / f"{number}.png")
    paths = [str(first / f"{number}.png") for number in range(2)]
    store = tmp_path / "s.kv"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(paths).encode())))
    kvtool.extract(store, model=str(tiny_model), dataset="folder:-")
    run = kvtool.open(store).run()
    first.rename(now)
    picture = kvtool.show(run, paths[0], tmp_path / "a.png", data=now)
    assert picture.notes == ()
    with Image.open(tmp_path / "a.png") as sheet:
        assert (255, 0, 0) in {colour for _, colour in sheet.convert("RGB").getcolors(10**6) or ()}
    (now / "0.png").unlink()
    fallback = kvtool.show(run, paths[0], tmp_path / "b.png", data=now)
    assert "0.png" in fallback.notes[0]
    Image.new("RGB", (40, 40), "green").save(now / "0.png")
    with pytest.raises(KvtoolError, match="changed"):
        kvtool.show(run, paths[0], tmp_path / "c.png", data=now)
