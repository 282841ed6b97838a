"""A store on an object store as its mirror shows it, over objects in memory: what one machine
commits, another reads; what is removed, lost or damaged; who was first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import CorruptError, StoreError
from kvtool.store import open_store, shards
from kvtool.store.copying import copy
from kvtool.store.objects import mirror
from kvtool.store.objects.bucket import Bucket
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from kvtool.types import Kind
from tests.support.object_stores import (
    ADDRESS,
    IMAGES,
    files_of,
    filled,
    forget_mirrors,
    keys_of,
    mirror_of,
    opened_elsewhere,
)
from tests.support.runs import (
    assert_holds,
    assert_same_bits,
    commit,
    config,
    create_run,
    image_arrays,
    sample,
)

obstore = pytest.importorskip("obstore")
pytestmark = pytest.mark.usefixtures("objects")


def test_what_one_machine_commits_another_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = filled(ADDRESS)
    second = opened_elsewhere(monkeypatch, tmp_path)
    assert second.path != first.path
    run = second.run()
    assert_holds(run, IMAGES)
    assert run.roster.ids == tuple(image.id for image in IMAGES)
    assert run.text_names == ["cat", "dog"]
    assert sorted(map(str, second.results())) == sorted(map(str, first.results()))
    assert (second.pictures_dir("drawn") / "1.png").read_bytes() == b"one"
    assert verify(second) == []
    assert not list(second.path.rglob("c.*")), "arrays are read from the objects"
    assert str(second) == f"Store {ADDRESS}\n  runs: 1: tiny"


@pytest.mark.slow
def test_an_array_is_read_as_plain_zarr_from_the_objects() -> None:
    run = filled(ADDRESS).run()
    for array, ids, offsets in run.zarr("value"):
        for position, name in enumerate(ids):
            values = np.asarray(array[:, :, offsets[position] : offsets[position + 1]])
            image = next(image for image in IMAGES if image.id == name)
            assert_same_bits(values, image_arrays(run.config, image)["value"])


def test_one_head_of_one_image_is_read_by_ranges_and_no_whole_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(ADDRESS, create=True)
    run = create_run(store, config(kinds=("value",)))
    images = [sample(index, n_tokens=600) for index in range(4)]
    commit(run, images)
    nbytes = 0
    ranges, get_range = Bucket.get_ranges, Bucket.get_range

    def counted_ranges(self: Bucket, key: str, spans: Any) -> list[Any]:
        nonlocal nbytes
        nbytes += sum(stop - start for start, stop in spans)
        return ranges(self, key, spans)

    def counted_range(self: Bucket, key: str, start: int, stop: int) -> tuple[Any, int]:
        nonlocal nbytes
        nbytes += stop - start
        return get_range(self, key, start, stop)

    monkeypatch.setattr(Bucket, "get_ranges", counted_ranges)
    monkeypatch.setattr(Bucket, "get_range", counted_range)
    monkeypatch.setattr(Bucket, "get", None)
    values, _ = run.read("value", 3, 1, ids=["image2"], raw=True)
    assert_same_bits(values, image_arrays(run.config, images[2])["value"][1, 1])
    shard = run.parts()[0].arrays["value"].shard_nbytes[1]
    assert nbytes < shard / 6  # one of eight chunks, and the index


@pytest.mark.parametrize("read_nbytes", [1, shards.READ_NBYTES])
@pytest.mark.parametrize("tokens", [[0, 5], [*range(600), *range(600)], [*range(600), *range(100)]])
def test_tokens_of_a_chunk_that_is_asked_for_again_come_from_the_objects(
    monkeypatch: pytest.MonkeyPatch, tokens: list[int], read_nbytes: int
) -> None:
    """The smallest reads stand for chunks that are larger than one, as of wide hidden states."""
    monkeypatch.setattr(shards, "READ_NBYTES", read_nbytes)
    run = create_run(open_store(ADDRESS, create=True), config(kinds=("projected",)))
    images = [sample(0, n_tokens=600), sample(1, n_tokens=601)]
    commit(run, images)
    values, _ = run.read("projected", 0, ids=["image0"], tokens=tokens, raw=True)
    assert_same_bits(values, image_arrays(run.config, images[0])["projected"][0, 0][tokens])


def test_a_part_without_its_commit_is_seen_by_nobody_and_written_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = open_store(ADDRESS, create=True)
    run = create_run(store, config())
    run.enroll([image.id for image in IMAGES], "/data")
    create = Bucket.create

    def fail(self: Bucket, key: str, data: bytes) -> Any:
        if key.startswith("commits/"):
            raise StoreError("the service is gone")
        return create(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "create", fail)
        with pytest.raises(StoreError, match="the service is gone"):
            commit(run, IMAGES[:3])
    assert keys_of(store, "runs/tiny/parts/")
    second = opened_elsewhere(monkeypatch, tmp_path)
    assert len(second.run()) == 0
    commit(run, IMAGES[:3])
    mirror_of(second).refresh(at_once=True)
    assert_holds(second.run(), IMAGES[:3])


def test_of_two_writers_of_a_part_one_commits_and_the_other_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = open_store(ADDRESS, create=True)
    run = create_run(first, config())
    second_run = opened_elsewhere(monkeypatch, tmp_path).run()
    monkeypatch.setattr(mirror, "REFRESH_S", 1e9)  # neither sees what the other commits
    assert commit(run, IMAGES[:2], "0000000-0000004")
    objects_of_first = keys_of(first)
    assert commit(second_run, IMAGES[:3], "0000000-0000004") == 0  # of other images, so other bytes
    assert keys_of(first) == objects_of_first
    assert_holds(second_run, IMAGES[:2])
    assert verify(first) == []


def test_a_commit_whose_answer_was_lost_is_the_writers_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that is sent again meets what it put the first time."""
    run = create_run(open_store(ADDRESS, create=True), config())
    create = Bucket.create

    def twice(self: Bucket, key: str, data: bytes) -> Any:
        create(self, key, data)
        return create(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "create", twice)
        patch.setattr(mirror.BucketMirror, "_check_conditions", lambda _: None)
        assert commit(run, IMAGES[:3]) > 0
    assert_holds(run, IMAGES[:3])


@pytest.mark.parametrize("ignored", ["create", "swap"])
def test_a_service_that_ignores_conditions_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    store = open_store(ADDRESS, create=True)
    monkeypatch.setattr(
        Bucket, ignored, lambda self, key, data, *_: self._put(key, data, "overwrite")
    )
    with pytest.raises(StoreError, match="found one that ignores it"):
        create_run(store, config())
    assert keys_of(store) == ["zarr.json"]
    assert store.runs() == []


@pytest.mark.slow
def test_an_object_that_is_lost_or_damaged_is_named_and_dropped_by_repair(
    objects: Any,
) -> None:
    store = filled(ADDRESS)
    parts = keys_of(store, "runs/tiny/parts/")
    (lost,) = (key for key in parts if "/0000003-" in key and key.endswith("key/c.1.0.0.0"))
    (damaged,) = (key for key in parts if "0000000-0000003-" in key and "n/c.0" in key)
    data = bytearray(bytes(obstore.get(objects, damaged).bytes()))
    data[3] ^= 1
    obstore.put(objects, damaged, bytes(data))
    obstore.delete(objects, lost)
    run = store.run()
    with pytest.raises(CorruptError, match=r"part 0000003-0000005, array key: file c\.1.*missing"):
        run.read("key", 3, 0)
    with pytest.raises(CorruptError, match=r"part 0000000-0000003, array vision: file c\.0"):
        run.read("vision", 2)
    assert {problem.part for problem in verify(store)} == {"0000000-0000003", "0000003-0000005"}
    repair(store)
    assert verify(store) == []
    assert len(store.run()) == 0
    assert [key for key in keys_of(store) if "/parts/" in key] == []


@pytest.mark.slow
def test_a_store_is_copied_to_objects_and_back_byte_for_byte(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = filled(tmp_path / "source.kv")
    remote = open_store(ADDRESS, create=True)
    assert copy(source, remote).runs[0].parts == 2
    assert copy(source, remote).runs[0].already_there == 3
    assert verify(remote) == []
    second = opened_elsewhere(monkeypatch, tmp_path)
    target = open_store(tmp_path / "target.kv", create=True)
    copied = copy(second, target)
    assert (copied.runs[0].images, copied.results) == (5, 2)
    assert files_of(target.run()) == files_of(source.run())
    assert (target.pictures_dir("drawn") / "1.png").read_bytes() == b"one"
    assert verify(target) == []


@pytest.mark.parametrize("kinds", [None, ["value"]])
def test_a_part_whose_objects_are_gone_is_left_out_of_a_copy_and_named(
    objects: Any, tmp_path: Path, kinds: list[Kind] | None
) -> None:
    store = filled(ADDRESS)
    keys = [key for key in keys_of(store, "runs/tiny/parts/0000000-0000003") if "/c." in key]
    for key in keys:
        obstore.delete(objects, key)
    row = copy(store, open_store(tmp_path / "target.kv", create=True), kinds=kinds).runs[0]
    assert (row.parts, row.images) == (1, 2)
    (line,) = row.failed
    assert line.startswith("run tiny, part 0000000-0000003")
    assert "is missing: `kvtool store repair` drops it, then extract again" in line


@pytest.mark.slow
def test_a_mirror_that_is_lost_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store = filled(ADDRESS)
    forget_mirrors(monkeypatch)
    shutil.rmtree(tmp_path / "cache")
    assert_holds(open_store(ADDRESS).run(), IMAGES)
    assert store.path.is_dir()
