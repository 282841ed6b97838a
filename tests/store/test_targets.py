"""Where a copy goes: made once there is something to write, and not by what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from kvtool.errors import KvtoolError, StoreError, UsageError
from kvtool.store import Store, existing_store, open_store
from kvtool.store.copying import copy
from kvtool.store.hub import pull, push
from kvtool.store.verify import verify
from tests.support.hub_data import FakeHub, fake_hub
from tests.support.object_stores import IMAGES, filled, in_memory, on_machine
from tests.support.runs import assert_holds
from tests.support.shell import Shell

HUB = "hf://datasets/acme/study"
REMOTE = "s3://tests/copy.kv"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    return fake_hub(monkeypatch, tmp_path / "hub")


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return filled(tmp_path / "source.kv")


@pytest.mark.parametrize(
    "options", [("--layers", "99"), ("--kinds", "hidden"), ("--run", "absent")]
)
def test_a_refused_copy_makes_no_store(
    source: Store, tmp_path: Path, shell: Shell, options: tuple[str, str]
) -> None:
    assert shell("store", "copy", source.path, tmp_path / "copy.kv", *options)[0] == 2
    assert not (tmp_path / "copy.kv").exists()


def test_a_refused_copy_to_an_address_makes_no_store(
    source: Store, tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    objects: Any = in_memory(monkeypatch)
    on_machine("cache", monkeypatch, tmp_path)
    assert shell("store", "copy", source.path, REMOTE, "--layers", "99")[0] == 2
    assert list(objects.list()) == []
    assert existing_store(REMOTE) is None
    assert copy(source, REMOTE).runs[0].parts == 2
    assert_holds(open_store(REMOTE).run(), IMAGES)


def test_a_store_without_runs_is_copied_to_none(tmp_path: Path, shell: Shell) -> None:
    open_store(tmp_path / "empty.kv", create=True)
    assert shell("store", "copy", tmp_path / "empty.kv", tmp_path / "copy.kv")[0] == 2
    assert not (tmp_path / "copy.kv").exists()


def test_a_copy_to_a_path_makes_the_store_and_goes_on(source: Store, tmp_path: Path) -> None:
    target = tmp_path / "new" / "copy.kv"
    with pytest.raises(UsageError, match="expected layers among"):
        copy(source, target, layers=[2])
    assert not target.parent.exists()
    assert copy(source, target).runs[0].parts == 2
    assert copy(source, str(target)).runs[0].already_there == 3
    assert verify(open_store(target)) == []
    # One whose making was ended before its last file is made to its end.
    (target / "zarr.json").unlink()
    assert copy(source, target).runs[0].already_there == 3
    with pytest.raises(UsageError, match="expected another store to copy to"):
        copy(source, source.path)


@pytest.mark.usefixtures("hub")
def test_what_a_store_cannot_be_made_of_is_refused_and_left_alone(
    source: Store, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for name, message in (
        ("file", "expected a folder, found a file"),
        ("folder", "expected an empty folder for a new store, found 'notes.txt'"),
        ("source.kv/inner", "expected a folder outside of other stores"),
    ):
        with pytest.raises(StoreError, match=message):
            copy(source, tmp_path / name)
        with pytest.raises(StoreError, match=message):  # before the hub is asked
            pull(HUB, tmp_path / name)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["notes.txt"]
    assert verify(source) == []


def test_a_refused_pull_makes_no_store(
    hub: FakeHub, source: Store, tmp_path: Path, shell: Shell
) -> None:
    target = tmp_path / "out.kv"
    assert shell("store", "pull", HUB, target)[0] == 1  # there is none
    push(source, HUB)
    assert shell("store", "pull", HUB, target, "--layers", "99")[0] == 2
    hub.failure = ConnectionResetError(104, "reset")
    with pytest.raises(KvtoolError):
        pull(HUB, target)
    hub.failure = None
    assert [path.name for path in tmp_path.iterdir() if "out.kv" in path.name] == []
    assert pull(HUB, target).runs[0].parts == 2
    assert_holds(open_store(target).run(), IMAGES)


def test_a_pull_that_is_ended_in_its_download_makes_no_store(
    hub: FakeHub, source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(source, HUB)
    real, calls = hub.snapshot_download, 0

    def ended(*args: Any, **kwargs: Any) -> str:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionResetError(104, "reset")
        return real(*args, **kwargs)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", ended)
    with pytest.raises(StoreError):
        pull(HUB, tmp_path / "out.kv")
    assert not (tmp_path / "out.kv").exists()
    assert pull(HUB, tmp_path / "out.kv").runs[0].parts == 2


def test_an_address_of_the_hub_names_the_command_for_it(
    source: Store, tmp_path: Path, shell: Shell
) -> None:
    code, _, (line,) = shell("store", "copy", source.path, HUB)
    assert code == 1
    assert line.endswith(
        f"store {HUB}: expected a folder or an address s3://, gs:// or az://, found one of the "
        f"Hugging Face hub: `kvtool store push STORE {HUB}` copies a store there"
    )
    code, _, (line,) = shell("store", "copy", HUB, tmp_path / "copy.kv")
    assert code == 1
    assert line.endswith(f": `kvtool store pull {HUB} FOLDER`, then name that folder")
    with pytest.raises(StoreError, match=f"`kvtool store pull {HUB} FOLDER`"):
        open_store(Path(HUB))
    with pytest.raises(StoreError, match="found another URL: copy or mount it"):
        open_store("https://example.org/study.kv")
