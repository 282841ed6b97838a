"""The index of an object store: commits put together, removed, and left by those killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvtool.store import open_store
from kvtool.store.objects import index, mirror, orphans
from kvtool.store.objects.bucket import Bucket
from kvtool.store.repair import prune
from tests.support.object_stores import (
    ADDRESS,
    IMAGES,
    fill,
    filled,
    forget_mirrors,
    keys_of,
    mirror_of,
    on_machine,
    opened_elsewhere,
)
from tests.support.runs import assert_holds, commit, config, create_run, ragged

obstore = pytest.importorskip("obstore")
pytestmark = [pytest.mark.usefixtures("objects"), pytest.mark.slow]


def test_commits_are_put_together_and_each_is_in_the_index_or_has_a_marker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mirror, "COMPACT_COMMITS", 3)
    store = open_store(ADDRESS, create=True)
    run = create_run(store, config(kinds=("value",)))
    for image in IMAGES:
        commit(run, [image])
    assert len(keys_of(store, "index/")) == 2
    assert keys_of(store, "recent/") == []
    monkeypatch.setattr(index.Index, "load", None)  # no commit is asked for by itself
    second = opened_elsewhere(monkeypatch, tmp_path)
    assert_holds(second.run(), IMAGES)


@pytest.mark.parametrize("is_indexed", [False, True])
def test_what_is_removed_goes_for_all_and_can_come_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_indexed: bool
) -> None:
    first = filled(ADDRESS)
    second = opened_elsewhere(monkeypatch, tmp_path)
    if is_indexed:
        mirror_of(first)._index.compact(1)
        assert keys_of(first, "recent/") == []
    second.run().drop_part("0000003-0000005")
    assert keys_of(first, "runs/tiny/parts/0000003-0000005") == []
    mirror_of(first).refresh(at_once=True)
    run = first.run()
    assert_holds(run, IMAGES[:3])
    commit(run, IMAGES[3:])
    mirror_of(second).refresh(at_once=True)
    assert_holds(second.run(), IMAGES)
    first.remove_run("tiny")
    mirror_of(second).refresh(at_once=True)
    assert second.runs() == []
    assert [key for key in keys_of(first) if "runs/tiny" in key] == []
    fill(second)
    mirror_of(first).refresh(at_once=True)
    assert_holds(first.run(), IMAGES)


def test_a_segment_that_was_made_while_a_part_was_removed_does_not_bring_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = filled(ADDRESS)
    own_index = mirror_of(store)._index
    commits = index.Index._commits

    def removed_meanwhile(self: index.Index, markers: Any) -> Any:
        loaded = commits(self, markers)
        monkeypatch.setattr(index.Index, "_commits", commits)
        mirror_of(store).remove(store.run().folder / "parts" / "0000003-0000005")
        return loaded

    monkeypatch.setattr(index.Index, "_commits", removed_meanwhile)
    own_index.compact(1)
    mirror_of(store).refresh(at_once=True)
    assert_holds(store.run(), IMAGES[:3])


def test_prune_deletes_old_objects_that_no_commit_names(
    objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(ADDRESS)
    before = keys_of(store)
    orphan = "runs/tiny/parts/0000005-0000009-0123456789abcdef/key/c.0.0.0.0"
    marker = "recent/runs/tiny/parts/0000005-0000009@0123456789abcdef"
    for key in (orphan, marker):
        obstore.put(objects, key, b"x")
    assert prune(store) == []  # a writer may be at it
    monkeypatch.setattr(orphans, "ORPHAN_S", -1.0)
    assert len(prune(store, dry_run=True)) == 2
    assert orphan in keys_of(store)
    prune(store)
    assert keys_of(store) == before
    assert_holds(store.run(), IMAGES)


def requests_of(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Counter[str]:
    """How often each request is made while something is done."""
    counts: Counter[str] = Counter()

    def counted(name: str, request: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            counts[name] += 1
            return request(*arguments)

        return count

    with monkeypatch.context() as patch:
        for name in ("fetch", "list", "_put", "delete", "get_range", "get_ranges"):
            patch.setattr(Bucket, name, counted(name, getattr(Bucket, name)))
        act()
    return counts


def test_a_store_is_opened_with_as_many_requests_however_many_parts_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mirror, "COMPACT_COMMITS", 8)
    store = open_store(ADDRESS, create=True)
    run = create_run(store, config(kinds=("value",)))
    images = [ragged(index) for index in range(31)]
    opened, fetched = [], []
    for first, last in ((0, 15), (15, 31)):
        for image in images[first:last]:
            commit(run, [image])
        forget_mirrors(monkeypatch)
        on_machine(f"new {last}", monkeypatch, tmp_path)
        fetched.append(requests_of(monkeypatch, lambda: open_store(ADDRESS).run().ids)["fetch"])
        opened.append(requests_of(monkeypatch, lambda: open_store(ADDRESS).run().ids))
        run = open_store(ADDRESS).run()
    # Known segments are not asked for again; of new ones each takes a request, of 8 commits.
    assert opened[0] == opened[1] == {"fetch": 1, "list": 3}
    assert fetched == [1 + 2, 1 + 4]
    assert_holds(run, images)
