"""Commands on a store at an address: the numbers, the bytes and the files of one in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.store import mirrors, open_store
from kvtool.store.copying import copy
from tests.support.object_stores import ADDRESS, files_of, keys_of, mirror_of, on_machine
from tests.support.scenes import World
from tests.support.shell import Shell

pytestmark = pytest.mark.slow

TASK = "semantic-correspondence"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, embedded_world: World) -> Path:
    """A run of the shipped model over eight scenes, in a folder."""
    path = tmp_path_factory.mktemp("local") / "tiny.kv"
    kvtool.extract(path, model="demo", dataset=_scenes(embedded_world), devices=("cpu",), limit=8)
    return path


def _scenes(world: World) -> str:
    return f"spair71k:{world('spair71k') / 'spair71k'}@test"


def test_an_extraction_to_an_address_has_the_bytes_of_one_to_a_folder(
    objects: Any, local: Path, embedded_world: World, tmp_path: Path
) -> None:
    kvtool.extract(
        ADDRESS, model="demo", dataset=_scenes(embedded_world), devices=("cpu",), limit=4
    )
    spec = _scenes(embedded_world)
    report = kvtool.extract(ADDRESS, model="demo", dataset=spec, devices=("cpu",), limit=8)
    assert (report.n_before, report.n_done) == (4, 4)
    again = kvtool.extract(ADDRESS, model="demo", dataset=spec, devices=("cpu",), limit=8)
    assert (again.n_before, again.n_done) == (8, 0)
    run, reference = open_store(ADDRESS).run(), open_store(local).run()
    assert run.ids == reference.ids
    assert run.text_names == reference.text_names
    for image in run.ids:
        arrays = run.read_image(image, raw=True)
        for name, values in reference.read_image(image, raw=True).items():
            assert np.array_equal(arrays[name], values)
    assert not [key for key in keys_of(open_store(ADDRESS)) if key.endswith(".claim")]
    assert objects is not None
    assert not list((tmp_path / "cache").rglob("c.*.0.0.0")), "no array stays on this machine"


def test_commands_give_what_they_give_of_a_folder(
    objects: Any,
    local: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert objects is not None
    copy(open_store(local), open_store(ADDRESS, create=True))
    on_machine("second", monkeypatch, tmp_path)
    for command in (("probe", TASK, "--kinds", "value"), ("variance", "--kind", "key")):
        expected = shell(command[0], local, *command[1:])
        assert expected[0] == 0
        assert shell(command[0], ADDRESS, *command[1:])[:2] == expected[:2]
    # What was computed is kept in the store, for all machines, and given again.
    assert len(keys_of(open_store(ADDRESS), "results/")) == len(list(open_store(local).results()))
    on_machine("third", monkeypatch, tmp_path)
    assert len(list(kvtool.open(ADDRESS).results())) == 2
    code, out, _ = shell("store", "runs", ADDRESS, "--format", "json")
    assert (code, '"images": 8' in out) == (0, True)
    image = kvtool.open(ADDRESS).run().ids[0]
    for store in (local, ADDRESS):
        assert shell("show", store, "--image", image, "-o", tmp_path / "picture.png")[0] == 0
        (tmp_path / "picture.png").rename(tmp_path / f"{'local' if store == local else 's3'}.png")
    assert (tmp_path / "s3.png").read_bytes() == (tmp_path / "local.png").read_bytes()
    assert shell("report", ADDRESS, "-o", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "tiny.kv" in page
    assert str(tmp_path) not in page


def test_a_search_index_is_kept_with_the_objects_and_read_elsewhere(
    objects: Any,
    local: Path,
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pytest.importorskip("faiss")
    assert objects is not None
    copy(open_store(local), open_store(ADDRESS, create=True))
    image = open_store(ADDRESS).run().ids[0]
    arguments = ("--image", image, "--at", "30,30", "--layer", "7", "--kv-head", "0")
    expected = shell("search", local, *arguments)
    assert expected[0] == 0
    assert shell("search", ADDRESS, *arguments)[:2] == expected[:2]
    index = [key for key in keys_of(open_store(ADDRESS)) if "/indexes/" in key]
    assert index
    on_machine("second", monkeypatch, tmp_path)
    assert shell("search", ADDRESS, *arguments)[:2] == expected[:2]
    assert [key for key in keys_of(open_store(ADDRESS)) if "/indexes/" in key] == index
    assert mirror_of(open_store(ADDRESS)).address == ADDRESS
    assert mirrors.mirror_of(local) is None


def test_a_whole_copy_back_has_the_files_of_the_first(
    objects: Any, local: Path, tmp_path: Path
) -> None:
    assert objects is not None
    copy(open_store(local), open_store(ADDRESS, create=True))
    target = open_store(tmp_path / "tiny.kv", create=True)
    copy(open_store(ADDRESS), target)
    files = files_of(open_store(local).run())
    assert files_of(target.run()) == {
        name: data for name, data in files.items() if not name.startswith("indexes/")
    }
