"""Stores on object stores for tests: in memory, for what one process shows, or on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.store import Run, Store, mirrors, open_store
from kvtool.store.copying import copy
from kvtool.store.objects.bucket import Bucket
from kvtool.store.objects.mirror import BucketMirror
from tests.support.runs import commit, config, create_run, finite_bits, ragged

ADDRESS = "s3://tests/tiny.kv"
IMAGES = [ragged(index) for index in range(5)]


def in_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let all addresses lead to objects in the memory of this process, and return these."""
    from obstore.store import MemoryStore

    objects = MemoryStore()
    forget_mirrors(monkeypatch)
    monkeypatch.setattr(Bucket, "open", lambda address, **_: Bucket(address, objects))
    return objects


def forget_mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know of no mirror, as one that has just begun."""
    monkeypatch.setattr(mirrors, "_mirrors", {})


def on_machine(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Open stores from now on as another machine does, which shares nothing but the objects."""
    monkeypatch.setenv("KVTOOL_CACHE", str(folder / name))


def opened_elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    """The store as another machine opens it."""
    on_machine("second", monkeypatch, folder)
    return open_store(ADDRESS)


def mirror_of(store: Store) -> BucketMirror:
    mirror = mirrors.mirror_of(store.path)
    assert isinstance(mirror, BucketMirror)
    return mirror


def keys_of(store: Store, prefix: str = "") -> list[str]:
    """The keys of a store's objects that begin so."""
    return sorted(key for key in mirror_of(store).nbytes() if key.startswith(prefix))


def fill(store: Store) -> Run:
    """A run of five images in two parts, and of two texts; a result, answers and pictures."""
    run = create_run(store, config())
    run.enroll([image.id for image in IMAGES[:3]], "/data")
    run.enroll([image.id for image in IMAGES], "/data")
    commit(run, IMAGES[:3])
    commit(run, IMAGES[3:])
    rng, shapes = np.random.default_rng(0), {"value": (2, 2, 2, 8)}
    shapes |= dict.fromkeys(("projected", "projected_mean"), (2, 1, 1, 12))
    vectors = {name: finite_bits(rng, shape, np.dtype("<u2")) for name, shape in shapes.items()}
    run.commit_text(["cat", "dog"], vectors, token_counts=(1, 2))
    fields = {"run": "tiny", "run_hash": run.config.hash}
    store.save_result("abc", {"command": "probe", "config": {**fields, "pictures": "drawn"}})
    store.save_result("abd", {"kind": "answers", "run": "tiny", "answers": {}})
    store.keep_pictures("drawn", [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    return run


def filled(address: str | Path) -> Store:
    store = open_store(address, create=True)
    fill(store)
    return store


def study_at_address(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let addresses lead to memory, where the folder's store lies as s3://bucket/study.kv."""
    in_memory(monkeypatch)
    on_machine("cache", monkeypatch, folder)
    copy(open_store(folder / "study.kv"), open_store("s3://bucket/study.kv", create=True))


def files_of(run: Run) -> dict[str, bytes]:
    """The bytes of all files of a run in a folder, those of who works on it aside."""
    paths = (path for path in run.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in paths}
