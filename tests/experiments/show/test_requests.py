"""kvtool show: the results and runs that it reads, files that it replaces, and one line for each
bad request.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import StoreError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.experiments.show import run as shown
from kvtool.pictures.contact_sheet import Tile
from kvtool.store import Run, open_store
from kvtool.types import Block
from tests.experiments.show.sheets import BEST, read
from tests.support.datasets import picture
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks.runs import RUNS


@pytest.mark.slow
def test_the_kept_probe_is_asked_and_without_one_it_runs(
    tmp_path: Path, sheet_tiles: list[Tile]
) -> None:
    run, done = RUNS["semantic-segmentation"](tmp_path), list[int]()
    options: dict[str, Any] = {
        "task": "semantic-segmentation",
        "progress": lambda n, *_: done.append(n),
    }
    kvtool.show(run, run.ids[0], tmp_path / "a.png", block=Block("value", 1, 0), **options)
    assert done == []
    assert kvtool.show(run, run.ids[0], tmp_path / "a.png", **options).block == BEST
    assert sum(done) == 6 * 2
    # A later probe of a single block says nothing of the others.
    probe(run, "semantic-segmentation", layers=[2], heads=[1], all_classes=True)
    assert kvtool.show(run, run.ids[0], tmp_path / "a.png", **options).block == BEST
    probe(run, "semantic-segmentation", all_classes=True)
    assert sum(done) == 6 * 2
    assert {tile.caption[0].split(" · ")[0] for tile in sheet_tiles} == {"red fish"}


def test_bad_requests(tmp_path: Path) -> None:
    run, out = RUNS["co-segmentation"](tmp_path), tmp_path / "a.png"
    (tmp_path / "folder.png").mkdir()
    cases: list[tuple[str, dict[str, Any]]] = [
        (r"no image 'cow/cow9' among the 8 .*; nearest: 'cow/cow[0-3]', ", {"images": "cow/cow9"}),
        (r"no image 'zzz' .*; for example: 'cow/cow0'", {"images": ["cow/cow0", "zzz"]}),
        (r"--block is of a task", {"block": BEST}),
        (
            r"--kind, --layers and --heads are of the maps",
            {"task": "co-segmentation", "kind": "value"},
        ),
        (
            r"no value:9:0; .* kv_heads: 0, 1",
            {"task": "co-segmentation", "block": Block("value", 9, 0)},
        ),
        (r"no value:5:2;", {"task": "co-segmentation", "block": Block("value", 5, 2)}),
        (r"no vision:3:1;", {"task": "co-segmentation", "block": Block("vision", 3, 1)}),
        (r"key is not stored", {"task": "co-segmentation", "block": Block("key", 5, 1)}),
        (r"cannot serve semantic-correspondence", {"task": "semantic-correspondence"}),
        (r"did you mean 'co-segmentation'", {"task": "cosegmentation"}),
        (r"value has no layer 77", {"layers": [77]}),
        (r"limit: expected a whole number from 1", {"task": "co-segmentation", "limit": 0}),
        (r"expected an image or more", {"images": []}),
        (r"ends in \.png, found '.*a\.jpg'", {"out": tmp_path / "a.jpg"}),
        (r"expected a file, found a folder", {"out": tmp_path / "folder.png"}),
    ]  # fmt: skip
    for message, options in cases:
        with pytest.raises(UsageError, match=message) as caught:
            shown.show(run, **{"images": "cow/cow0", "out": out, **options})
        assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.slow
def test_an_image_that_the_task_does_not_know(tmp_path: Path) -> None:
    """In the run, but in no pair that the kept probe scored."""
    run = RUNS["semantic-correspondence"](tmp_path)
    probe(run, spair.TASK, limit=1)
    with pytest.raises(
        UsageError,
        match=r"predicts nothing of 'cat1/cat1i3': .* its 1 units .*--limit 1.*; it knows",
    ):
        kvtool.show(run, "cat1/cat1i3", tmp_path / "a.png", task=spair.TASK)


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = RUNS["co-segmentation"](tmp_path), tmp_path / "out/a.png"
    out.parent.mkdir()
    out.write_bytes(b"old")
    replaced: list[tuple[str, bytes]] = []
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        replaced.append((Path(source).parent.name, Path(target).read_bytes()))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: replace(self, target))
        kvtool.show(run, run.ids[0], out)
    assert replaced == [("out", b"old")]
    assert read(out).size
    assert [path.name for path in out.parent.iterdir()] == ["a.png"]
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error"))
        )
        with pytest.raises(
            StoreError, match=r"show: -o: .*a\.png cannot be written: Input/output error"
        ):
            kvtool.show(run, run.ids[0], out)
    assert [path.name for path in out.parent.iterdir()] == ["a.png"]
    picture(tmp_path / "file/x.png", 8, 8)
    with pytest.raises(StoreError, match="Not a directory"):
        kvtool.show(run, run.ids[0], tmp_path / "file/x.png/b.png")


def test_a_store_of_one_run_will_do(tmp_path: Path) -> None:
    run: Run = RUNS["co-segmentation"](tmp_path)
    picture = kvtool.show(open_store(run.store), run.ids[0], str(tmp_path / "a.png"), layers=[0])
    assert picture.row() == {
        "path": str(tmp_path / "a.png"),
        "what": "pca",
        "run": run.name,
        "kind": "value",
        "layer": None,
        "kv_head": None,
        "images": [run.ids[0]],
    }
