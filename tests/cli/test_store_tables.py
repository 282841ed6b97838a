"""What `kvtool store runs` and `store info` show on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvtool.cli.store import _parent
from tests.support.runs import config, create_run, new_store
from tests.support.shell import Shell


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs over two data sets of one folder."""
    opened = new_store(tmp_path_factory.mktemp("store"))
    for name, dataset in (("a", "voc"), ("b", "coco"), ("c", "coco")):
        create_run(opened, config(name=name, dataset=dataset, dataset_path=f"/data/{dataset}"))
    return opened.path


def test_a_folder_of_all_data_sets_is_named_once(store: Path, shell: Shell) -> None:
    _, out, _ = shell("store", "runs", store, "--format", "table")
    assert out.splitlines()[0] == "data sets below /data"
    assert out.count("/data") == 1
    assert "voc@all · voc" in out


def test_kinds_stand_as_a_flag_takes_them(store: Path, shell: Shell) -> None:
    _, out, _ = shell("store", "runs", store, "--format", "table")
    kinds = ",".join(config().kinds)
    assert "".join(out.split()).count(f"kinds{kinds}") >= 1


@pytest.mark.parametrize(
    ("folders", "parent"),
    [
        (["/a/b/voc", "/a/b/coco"], "/a/b"),
        (["/a/b/voc", "/a/b/voc"], ""),
        (["/voc", "/coco"], ""),
        (["/a/voc", "coco"], ""),
        (["/a/b", "/a/b/coco"], "/a/b"),
        ([], ""),
    ],
)
def test_the_parent_of_folders(folders: list[str], parent: str) -> None:
    assert _parent(folders) == parent


@pytest.mark.slow
def test_sizes_of_nothing_take_no_line(store: Path, shell: Shell) -> None:
    _, out, _ = shell("store", "info", store, "--format", "table")
    assert "0 bytes" not in out
    _, out, _ = shell("store", "info", store, "--format", "jsonl")
    assert json.loads(out)["tmp_bytes"] == 0
