"""Several workers of one machine share the mirror of a store: they open it for the first time, save
and fetch at once; or one is killed meanwhile.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kvtool.store import layout, open_store
from kvtool.store.objects.bucket import Bucket
from kvtool.store.store_folder import create_store
from kvtool.store.verify import verify
from tests.support.object_stores import ADDRESS, filled, forget_mirrors, mirror_of

pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("objects")


def test_of_many_that_open_an_address_first_one_makes_the_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers of one machine share a cache, and begin at once."""
    folders: list[Path] = []

    def slow(folder: Path) -> None:
        folders.append(folder)
        time.sleep(0.05)
        create_store(folder)
        time.sleep(0.05)

    monkeypatch.setattr("kvtool.store.objects.connect.create_store", slow)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(ADDRESS, create=True), range(8)))
    assert len(folders) == 1
    (root,) = {store.path for store in stores}
    assert (root.parent / "address").read_text() == ADDRESS
    assert not layout.ledger_path(root).exists()
    names = sorted(path.name for path in root.parent.iterdir() if path.is_dir())
    assert names == ["index", root.name]


def test_a_mirror_is_there_as_a_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        create_store(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kvtool.store.objects.connect.create_store", killed)
        with pytest.raises(KeyboardInterrupt):
            open_store(ADDRESS, create=True)
    store = open_store(ADDRESS, create=True)
    assert not layout.ledger_path(store.path).exists()
    # What an earlier kvtool left half made is made anew.
    (store.path / "zarr.json").unlink()
    forget_mirrors(monkeypatch)
    assert verify(filled(ADDRESS)) == []


def test_a_result_that_is_saved_while_results_are_fetched_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = filled(ADDRESS)
    is_listed, is_saved = threading.Event(), threading.Event()
    list_objects = Bucket.list

    def slow(self: Bucket, prefix: str) -> Any:
        entries = list(list_objects(self, prefix))
        is_listed.set()
        is_saved.wait(0.3)
        return entries

    def save() -> None:
        is_listed.wait()
        store.save_result("late", {"best": 1.0})
        is_saved.set()

    monkeypatch.setattr(Bucket, "list", slow)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save)
        mirror_of(store).refresh_results()
        saving.result()
    assert (store.results_dir / "late.json").exists()
    assert store.load_result("late") == {"best": 1.0}


def test_results_that_two_fetch_at_once_are_fetched_by_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = filled(ADDRESS)
    (store.results_dir / "abc.json").unlink()
    # What a process left that was killed while it wrote goes; nobody reads it.
    (store.results_dir / ".0123abcd.part").write_bytes(b"x")
    is_written = threading.Event()
    replace_path = Path.replace

    def slow(self: Path, target: Path) -> Path:
        is_written.set()
        time.sleep(0.2)
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    with ThreadPoolExecutor(1) as pool:
        fetching = pool.submit(mirror_of(store).refresh_results)
        is_written.wait()
        mirror_of(store).refresh_results()
        fetching.result()
    names = sorted(path.name for path in store.results_dir.iterdir())
    assert names == ["abc.json", "abd.json", "zarr.json"]
