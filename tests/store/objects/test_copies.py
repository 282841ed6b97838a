"""Copies onto an object store, over objects in memory: what is gone there, and what is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvtool.store import open_store
from kvtool.store.copying import copy
from kvtool.store.objects.bucket import Bucket
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from tests.support.object_stores import ADDRESS, IMAGES, filled, keys_of
from tests.support.runs import assert_holds
from tests.support.shell import Shell

obstore = pytest.importorskip("obstore")
PART = "runs/tiny/parts/0000000-0000003"


def test_a_copy_whose_objects_are_gone_is_named_and_mended_by_repair(
    objects: Any, tmp_path: Path, shell: Shell
) -> None:
    source = filled(tmp_path / "source.kv")
    remote = open_store(ADDRESS, create=True)
    copy(source, remote)
    for key in keys_of(remote, PART):
        obstore.delete(objects, key)
    code, _, err = shell("store", "copy", source.path, ADDRESS)
    assert code == 4
    (line,) = (line for line in err if "run tiny, part" in line)
    assert "run tiny, part 0000000-0000003 of the copy: file " in line
    assert line.endswith(f"is missing: `kvtool store repair {ADDRESS}`, then copy again")
    # What it says is what helps.
    repair(remote)
    assert copy(source, remote).left_out() == []
    assert_holds(remote.run(), IMAGES)
    assert verify(remote) == []


def test_an_object_of_another_size_is_named(objects: Any, tmp_path: Path) -> None:
    source = filled(tmp_path / "source.kv")
    remote = open_store(ADDRESS, create=True)
    copy(source, remote)
    (key,) = (key for key in keys_of(remote, "runs/tiny/text/") if key.endswith("/value/c.0.0.0.0"))
    obstore.put(objects, key, b"abc")
    (line,) = copy(source, remote).left_out()
    assert line.startswith("run tiny, part 0000000 of the copy: file value/c.0.0.0.0: expected ")
    assert "bytes, found 3: " in line


def test_what_is_there_costs_a_list_for_each_part_and_no_bytes_of_its_arrays(
    objects: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert objects is not None
    source = filled(tmp_path / "source.kv")
    remote = open_store(ADDRESS, create=True)
    copy(source, remote)
    listed: list[str] = []
    real = Bucket.list

    def counted(self: Bucket, prefix: str) -> Any:
        listed.append(prefix)
        return real(self, prefix)

    monkeypatch.setattr(Bucket, "list", counted)
    monkeypatch.setattr(Bucket, "get_ranges", None)
    monkeypatch.setattr(Bucket, "get_range", None)
    assert copy(source, remote).runs[0].already_there == 3
    assert len([prefix for prefix in listed if prefix.startswith("runs/tiny/")]) == 3
