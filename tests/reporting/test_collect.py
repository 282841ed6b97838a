"""`report` on real stores: pictures of every task, what is missing is said, and the command as a
shell sees it.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.errors import StoreError, UsageError
from kvtool.pictures.thumbnails import Thumbnails
from kvtool.reporting.collect import Page, report
from kvtool.store import Run, open_store
from tests.support import studies
from tests.support.page import Reader
from tests.support.shell import Shell
from tests.support.tasks import co_segmentation as msrc
from tests.support.tasks import foreground_segmentation as pascal
from tests.support.tasks import language
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.units import PLANTED


def spair_run(folder: Path) -> Run:
    return spair.make_run(folder, "s.kv", kinds=("key", "value", "projected", "vision"))


def read(page: Page) -> Reader:
    text = page.path.read_text(encoding="utf-8")
    assert page.n_bytes == len(text.encode())
    return Reader(text)


def examples(reader: Reader) -> dict[str, list[dict[str, Any]]]:
    blocks: dict[str, list[dict[str, Any]]] = reader.data["blocks"]["r0"]["examples"]
    return blocks


def picture(reader: Reader, name: str) -> Image.Image:
    uri = reader.data["pictures"][name]
    assert uri.startswith("data:image/webp;base64,")
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


RUNS: dict[str, Callable[[Path], Run]] = {
    spair.TASK: spair_run,
    pascal.TASK: lambda folder: pascal.make_run(folder, 3),
    msrc.TASK: msrc.make_run,
    davis.TASK: davis.make_run,
    "semantic-segmentation": language.bdd_run,
}


@pytest.mark.slow
@pytest.mark.parametrize("task", RUNS)
def test_predictions_are_drawn_for_the_best_blocks(task: str, tmp_path: Path) -> None:
    run = RUNS[task](tmp_path)
    few: dict[str, dict[str, Any]] = {
        pascal.TASK: {"episodes": 6},
        msrc.TASK: {"layers": [PLANTED[0]]},
    }
    result = kvtool.probe(run, task, **few.get(task, {}))
    page = report(run.store, tmp_path / "page.html", examples=2, blocks=3)
    assert page.notes == ()
    reader = read(page)
    blocks = examples(reader)
    best = "/".join(str((result.best or {})[name]) for name in ("kind", "layer", "kv_head"))
    assert next(iter(blocks)) == best
    assert len(blocks) == 3
    for pictures in blocks.values():
        assert 1 <= len(pictures) <= 2
        for entry in pictures:
            assert picture(reader, entry["picture"]).size == (entry["width_px"], entry["height_px"])
            assert entry["caption"]


@pytest.mark.slow
def test_matches_are_those_of_the_block(tmp_path: Path) -> None:
    """With all pairs drawn, the points found are those that the probe scored."""
    run = spair_run(tmp_path)
    result = kvtool.probe(run, spair.TASK, kinds=["value"])
    blocks = examples(read(report(run.store, tmp_path / "page.html", examples=result.n, blocks=3)))
    assert next(iter(blocks)) == "value/{}/{}".format(*PLANTED)
    for block, pictures in blocks.items():
        kind, layer, head = block.split("/")
        row = spair.summary(result, kind, int(layer), int(head))
        words = [entry["caption"].split(" · ")[1].split() for entry in pictures]
        rights, totals = (sum(int(parts[position]) for parts in words) for position in (0, 2))
        assert len(pictures) == result.n
        assert rights / totals == pytest.approx(row["pck_point"])


@pytest.mark.slow
def test_what_is_gone_is_said_and_the_page_is_whole(tmp_path: Path) -> None:
    run = spair_run(tmp_path)
    kvtool.probe(run, spair.TASK)
    kvtool.variance(run, threshold=1.0)
    shutil.move(tmp_path / "data", tmp_path / "moved")
    page = report(run.store, tmp_path / "page.html")
    assert len(page.notes) == 2
    assert page.notes[1].startswith(f"Components of {run.name} stand without their images: ")
    assert page.notes[0].startswith(f"No pictures for probe {spair.TASK} of {run.name}: spair71k: ")
    reader = read(page)
    assert page.notes[0].replace(f"{tmp_path}/", "") in reader.text
    assert examples(reader) == {}
    moved = report(run.store, tmp_path / "page.html", data={"spair71k": tmp_path / "moved"})
    assert moved.notes == ()
    assert examples(read(moved))
    open_store(run.store).remove_run(run.name)
    bare = report(run.store, tmp_path / "page.html")
    assert len(bare.notes) == 2
    assert "their runs are not in the stores any more" in read(bare).text


@pytest.mark.slow
def test_components_of_two_images(tmp_path: Path) -> None:
    run = spair_run(tmp_path)
    kvtool.variance(run, threshold=1.0)
    reader = read(report(run.store, tmp_path / "page.html"))
    images = [a for tag, a in reader.elements if tag == "img"]
    first, second = run.ids[:2]
    # Each image stands beside its own components.
    assert [str(image["alt"]).rsplit(" ", 1)[1] for image in images] == [first] * 2 + [second] * 2
    originals, sheets = images[::2], images[1::2]
    assert all(picture(reader, str(image["data-picture"])).width > 400 for image in sheets)
    assert [image["alt"] for image in originals] == [f"image {first}", f"image {second}"]


def test_questions_have_their_images(tmp_path: Path) -> None:
    run = spair_run(tmp_path)
    result = studies.paired_result()
    for item in result.items:
        item["images"] = [run.ids[1]]
    result.config["run"] = run.name
    open_store(run.store).save_result("p", result.to_json())
    reader = read(report(run.store, tmp_path / "page.html"))
    images = [a for tag, a in reader.elements if tag == "img"]
    assert [image["alt"] for image in images] == [f"image {run.ids[1]}"] * 3
    assert len(reader.data["pictures"]) == 1


@pytest.mark.slow
def test_several_stores(tmp_path: Path) -> None:
    runs = [spair_run(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        kvtool.probe(run, spair.TASK, kinds=["value"])
    page = kvtool.report(
        [open_store(run.store) for run in runs], tmp_path / "page.html", examples=0
    )
    assert page.n_results == 2
    assert page.n_pictures == 0
    assert {row[-1] for row in read(page).data["tables"]["runs"]["rows"]} == {"a/s.kv", "b/s.kv"}


def test_pictures_are_kept_once_and_within_bounds() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    first, second = map(Image.fromarray, noise)
    pictures = Thumbnails(100_000)
    assert pictures.add(first, "a") == pictures.add(first, "a")
    assert len(pictures.uris) == 1
    pictures.budget_bytes = 100
    assert pictures.add(second, "b") is None
    assert pictures.add(first, "c") is not None
    assert (pictures.n_refused, len(pictures.uris)) == (1, 1)


def test_errors(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.kv", create=True)
    with pytest.raises(
        UsageError,
        match=r"expected results of an analysis, found none in .*s.kv: run one first, e.g.",
    ):
        report(store, tmp_path / "page.html")
    with pytest.raises(StoreError, match="expected a kvtool store"):
        report(tmp_path / "none.kv", tmp_path / "page.html")
    store.save_result("a", studies.unknown_result().to_json())
    for target, message in (
        (tmp_path, "expected a file, found a folder"),
        (tmp_path / "no" / "page.html", "make it first"),
    ):
        with pytest.raises(UsageError, match=message):
            report(store, target)
    with pytest.raises(StoreError, match=r"cannot be written"):
        report(store, tmp_path / f"{'long' * 80}.html")
    assert not list(tmp_path.glob(".page*"))


@pytest.mark.slow
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    run = spair_run(tmp_path)
    page = tmp_path / "page.html"
    code, _, err = shell("report", run.store, "-o", page)
    assert code == 2
    assert f"kvtool probe {run.store} all" in "\n".join(err)
    kvtool.probe(run, spair.TASK, kinds=["value", "projected"], layers=[4, 5], select="split")
    monkeypatch.setenv("KVTOOL_STORE", str(run.store))
    code, out, err = shell("report", "-o", page, "--title", "T <1>", "--examples", "1")
    assert (code, out) == (0, f"{page}\n")
    assert "results: 1, pictures: " in "\n".join(err)
    reader = Reader(page.read_text(encoding="utf-8"))
    assert "T <1>" in reader.text
    code, _, err = shell("report", "-o", page, "--data", "spair71k")
    assert code == 2
    assert "expected NAME=FOLDER" in "\n".join(err)


@pytest.mark.slow
def test_the_commands_on_the_page_make_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    """Run again, they are answered by what the store keeps: their configuration is the same."""
    run = spair_run(tmp_path)
    kvtool.probe(
        run,
        spair.TASK,
        kinds=["value", "projected"],
        layers=[4, 5],
        heads=[1],
        select="split",
        limit=5,
    )
    kvtool.variance(run, threshold=1.0, seed=3)
    store = open_store(run.store)
    page = report(store, tmp_path / "page.html").path.read_text(encoding="utf-8")
    lines = map(html.unescape, re.findall("<code>(kvtool (?!extract).*?)</code>", page))
    commands = [shlex.split(line)[1:] for line in lines]
    assert [words[0] for words in commands] == ["probe", "variance"]
    contents = {path.name: json.loads(path.read_text()) for path in store.results_dir.iterdir()}
    monkeypatch.chdir(run.store.parent)  # the page says nothing of where the store lies
    for words in commands:
        assert shell(*words)[0] == 0
    assert {
        path.name: json.loads(path.read_text()) for path in store.results_dir.iterdir()
    } == contents
