"""Stores on the Hugging Face hub: pushed, pulled, checked, chosen, and refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from kvtool.errors import RunConflictError, StoreError
from kvtool.store import Store, mirrors, open_store
from kvtool.store.hub import pull, push
from kvtool.store.verify import verify
from tests.support.hub_data import FakeHub, fake_hub, files_in
from tests.support.object_stores import IMAGES, files_of, filled, in_memory
from tests.support.runs import assert_holds, commit, config, create_run
from tests.support.shell import Shell

ADDRESS = "hf://datasets/acme/study"
RUN = "runs/tiny"
DAMAGED = f"{RUN}/parts/0000000-0000003/key/c.0.0.0.0"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    return fake_hub(monkeypatch, tmp_path / "hub")


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return filled(tmp_path / "source.kv")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(tmp_path / "target.kv", create=True)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "/stores/study.kv"])
def test_what_is_pushed_and_pulled_is_equal_byte_for_byte(
    hub: FakeHub, source: Store, target: Store, tmp_path: Path, path: str
) -> None:
    (source.run().folder / "locks" / "x.claim").write_text("{}")
    pushed = push(source, ADDRESS + path)
    assert (pushed.runs, pushed.parts, pushed.failed) == (1, 2, [])
    assert pushed.private
    assert hub.private == {"acme/study": True}
    names = files_in(hub.head() / path.strip("/"))
    assert [name for name in names if "/locks/" in name] == [f"{RUN}/locks/zarr.json"]
    assert [name for name in names if name.startswith("tmp")] == []
    copied = pull(ADDRESS + path, target)
    assert [(row.parts, row.images, row.failed) for row in copied.runs] == [(2, 5, [])]
    assert copied.results == 2
    (source.run().folder / "locks" / "x.claim").unlink()
    assert files_of(target.run()) == files_of(source.run())
    assert verify(target) == []
    assert [entry.name for entry in tmp_path.iterdir() if "pull" in entry.name] == []


def test_a_pushed_folder_that_is_downloaded_by_other_means_is_a_store(
    hub: FakeHub, source: Store
) -> None:
    push(source, ADDRESS)
    assert verify(open_store(hub.head())) == []


@pytest.mark.slow
def test_a_pull_that_was_ended_goes_on(
    hub: FakeHub, source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(source, ADDRESS)
    real, calls = hub.snapshot_download, 0

    def ended(*args: Any, **kwargs: Any) -> str:
        nonlocal calls
        calls += 1
        result = real(*args, **kwargs)
        if calls == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ended)
    with pytest.raises(KeyboardInterrupt):
        pull(ADDRESS, target)
    downloaded = list(hub.downloads)
    assert pull(ADDRESS, target).runs[0].parts == 2
    assert hub.downloads == downloaded
    # What the target has is not downloaded again.
    hub.downloads.clear()
    again = pull(ADDRESS, target).runs[0]
    assert (again.parts, again.already_there) == (0, 3)
    assert [name for name in hub.downloads if "/parts/" in name and "c." in name] == []


def test_of_chosen_kinds_and_layers_only_what_they_need_is_downloaded(
    hub: FakeHub, source: Store, target: Store
) -> None:
    push(source, ADDRESS)
    pull(ADDRESS, target, runs=["ti"], kinds=["value"], layers=[3])
    shards = {Path(name).parts[-2:] for name in hub.downloads if "/parts/" in name and "c." in name}
    assert shards == {("value", "c.1.0.0.0"), ("text_value", "c.0.0.0.0")}
    assert target.run().config.hash == config(kinds=("value",), layers=(3,)).hash
    assert target.run().text_names == ["cat", "dog"]
    assert list(target.results()) == []
    assert verify(target) == []


@pytest.mark.slow
def test_chosen_kinds_are_pushed_as_a_run_of_their_own(
    hub: FakeHub, source: Store, target: Store
) -> None:
    push(source, ADDRESS, runs=["tiny"], kinds=["projected"])
    names = [name for name in files_in(hub.head()) if "/parts/" in name and "c.0" in name]
    assert {Path(name).parts[4] for name in names} == {"projected"}
    pull(ADDRESS, target)
    assert target.run().config.hash == config(kinds=("projected",)).hash
    assert verify(target) == []


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_a_damaged_part_is_left_out_of_a_push_and_named(source: Store, target: Store) -> None:
    damage(source.path / DAMAGED)
    pushed = push(source, ADDRESS)
    assert (pushed.parts, len(pushed.failed), pushed.row()["failed"]) == (1, 1, 1)
    assert "part 0000000-0000003: file key/c.0.0.0.0: expected the bytes" in pushed.failed[0]
    pull(ADDRESS, target)
    assert_holds(target.run(), IMAGES[3:])


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_a_part_that_is_gone_is_left_out_of_a_push_and_named(
    source: Store, target: Store, shell: Shell
) -> None:
    shutil.rmtree(source.run().folder / "parts" / "0000000-0000003")
    code, _, err = shell("store", "push", source.path, ADDRESS)
    assert code == 4
    line = "run tiny, part 0000000-0000003: expected its folder, found it in the ledger alone"
    assert any(line in text for text in err)
    assert "1 part, run or result left out" in err[-1]
    pull(ADDRESS, target)
    assert_holds(target.run(), IMAGES[3:])


@pytest.mark.slow
def test_what_the_hub_damages_or_loses_is_left_out_of_a_pull_and_comes_later(
    hub: FakeHub, source: Store, target: Store, shell: Shell
) -> None:
    push(source, ADDRESS)
    damage(hub.head() / DAMAGED)
    for path in (hub.head() / "runs/tiny/parts/0000003-0000005").rglob("*.*"):
        path.unlink()
    code, out, err = shell("store", "pull", ADDRESS, str(target.path))
    assert code == 4
    assert '"failed": 2' in out
    assert any("expected the bytes that were written" in line for line in err)
    assert any("found it in the ledger alone" in line for line in err)
    push(source, ADDRESS)
    assert pull(ADDRESS, target).runs[0].parts == 2
    assert files_of(target.run()) == files_of(source.run())


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_a_store_on_an_object_store_is_pushed_and_pulled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Store
) -> None:
    in_memory(monkeypatch)
    monkeypatch.setenv("KVTOOL_CACHE", str(tmp_path / "cache"))
    remote = open_store("s3://bucket/study.kv", create=True)
    push(source, ADDRESS)
    pull(ADDRESS, remote)
    push(remote, f"{ADDRESS}/again")
    local = open_store(tmp_path / "local.kv", create=True)
    pull(f"{ADDRESS}/again", local)
    assert files_of(local.run()) == files_of(source.run())
    assert list((tmp_path / "cache" / "pulls").iterdir()) == []
    assert mirrors.mirror_of(remote.path) is not None


@pytest.mark.slow
def test_another_run_of_the_name_is_refused_on_either_side(
    hub: FakeHub, source: Store, target: Store, tmp_path: Path
) -> None:
    push(source, ADDRESS)
    n_commits = len(hub.commits("acme/study"))
    create_run(target, config(prefix="correct"))
    with pytest.raises(RunConflictError, match="found one of others"):
        push(target, ADDRESS)
    with pytest.raises(RunConflictError, match="found one of others"):
        pull(ADDRESS, target)
    third = open_store(tmp_path / "third.kv", create=True)
    run = create_run(third, config())
    run.enroll([IMAGES[3].id], "/data")
    with pytest.raises(RunConflictError, match="in the order of the run to be copied"):
        push(third, ADDRESS)
    assert len(hub.commits("acme/study")) == n_commits
    assert [entry.name for entry in tmp_path.iterdir() if "pull" in entry.name] == []


@pytest.mark.slow
def test_a_run_that_grew_is_pushed_again(hub: FakeHub, tmp_path: Path, target: Store) -> None:
    source = open_store(tmp_path / "grown.kv", create=True)
    run = create_run(source, config())
    for images in (IMAGES[:3], IMAGES):
        run.enroll([image.id for image in images], "/data")
        commit(run, images[-3:] if len(images) == 3 else images[3:])
        push(source, ADDRESS)
    first, second = (path.name for path in hub.commits("acme/study")[1:])
    pull(f"{ADDRESS}@{first}", target)
    assert_holds(target.run(), IMAGES[:3])
    assert pull(f"{ADDRESS}@{second}", target).runs[0].images == 2
    assert_holds(target.run(), IMAGES)


@pytest.mark.usefixtures("hub")
def test_a_public_data_set_is_pushed_to_only_where_that_is_meant(source: Store) -> None:
    assert not push(source, ADDRESS, public=True).private
    with pytest.raises(StoreError, match="expected a private data set, found one that all may"):
        push(source, ADDRESS)
    assert not push(source, ADDRESS, public=True).private


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_the_commands_are_the_functions(source: Store, tmp_path: Path, shell: Shell) -> None:
    code, out, _ = shell("-q", "store", "push", str(source.path), ADDRESS, "--public")
    assert code == 0
    assert '"parts": 2' in out
    assert '"private": false' in out
    target = str(tmp_path / "new.kv")
    code, out, _ = shell("-q", "store", "pull", ADDRESS, target, "--kinds", "value")
    assert code == 0
    assert open_store(target).run().config.kinds == ("value",)
    damage(source.path / DAMAGED)
    code, _, err = shell("store", "push", str(source.path), ADDRESS, "--public")
    assert code == 4
    assert "1 part, run or result left out" in err[-1]
