"""A store among strangers: odd metadata, litter of file managers and servers, disks that refuse,
claims and containers that nobody can look into.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvtool.errors import BusyError, CorruptError, StoreError
from kvtool.store import Store, open_store
from kvtool.store.sealed import SEAL, UNSEALED, sealed, unsealed
from kvtool.store.verify import verify
from tests.support.runs import assert_holds, ragged


def test_litter_of_file_managers_and_servers_is_ignored_everywhere(store: Store) -> None:
    folders = [path for path in store.path.rglob("*") if path.is_dir()]
    for folder in [store.path, *folders]:
        for name in (".DS_Store", "._x.json", ".nfs0001"):
            (folder / name).write_bytes(b"x")
        (folder / ".Trash-0").mkdir()
    assert verify(store) == []
    assert store.runs() == ["tiny"]
    assert len(list(store.results())) == 2
    assert store.count_parts() == 2
    assert_holds(store.run(), [ragged(index) for index in range(5)])


def test_a_run_with_a_claim_that_nobody_can_judge_is_removed_by_force_alone(store: Store) -> None:
    (store.path / "runs" / "tiny" / "locks" / "p.claim").write_text("?")
    with pytest.raises(BusyError, match=r"an unknown process.*--force"):
        store.remove_run("tiny")
    store.remove_run("tiny", force=True)
    assert store.runs() == []


def test_a_store_that_cannot_be_written_costs_nobody_the_result(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def closed(*_: object) -> None:
        raise StoreError("result x: cannot be written: Read-only file system")

    monkeypatch.setattr(Store, "save_result", closed)
    assert not store.keep("x", {"best": 1})
    assert not store.keep("y", {"kind": "answers"})
    assert not store.keep("z", {"kind": "answers"})
    assert caplog.text.count("the result is given all the same") == 2


def mutations(value: object) -> list[object]:
    """A JSON value with one member of another type, or without it, at every place."""
    variants: list[object] = [None, "x", -1, [], {}]
    if isinstance(value, dict):
        for name in value:
            variants.append({key: member for key, member in value.items() if key != name})
            variants += [{**value, name: changed} for changed in mutations(value[name])]
    elif isinstance(value, list) and value:
        variants += [[changed, *value[1:]] for changed in mutations(value[0])]
    return variants


@pytest.mark.slow
@pytest.mark.parametrize("group", ["", "parts/0000000-0000003", "text/0000000", "roster/0000001"])
def test_metadata_of_wrong_types_under_a_valid_seal_is_an_error_of_ours(
    store: Store, group: str
) -> None:
    path = store.path / "runs" / "tiny" / group / "zarr.json"
    document = unsealed(path.read_bytes(), "")
    attributes = {key: value for key, value in document["attributes"].items() if key != SEAL}
    for changed in mutations(attributes):
        if not isinstance(changed, dict):
            continue
        path.write_bytes(sealed({**document, "attributes": {SEAL: UNSEALED, **changed}}))
        verify(store)
        try:
            run = store.run("tiny")
            for image in run.ids:
                run.read_image(image)
            run.text_values(1, 0)
            run.info()
            assert len(run.roster.ids) < 100
        except StoreError:
            continue


def test_deep_json_is_damage() -> None:
    deep = b'{"kvtool_crc32c": "00000000", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    from kvtool.store.files import crc32c

    data = deep.replace(b"00000000", b"%08x" % crc32c(deep), 1)
    with pytest.raises(CorruptError):
        unsealed(data, "here")


def _may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _may_unshare(), reason="needs unshare and the right to use it")
def test_writers_in_containers_that_hide_their_processes_lose_nothing(tmp_path: Path) -> None:
    """Four writers with process ids of their own sweep while the others write."""
    path = tmp_path / "tiny.kv"
    code = f"from tests.store.worker import work_to_the_end; work_to_the_end({str(path)!r})"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    workers = [
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        for _ in range(4)
    ]
    assert [worker.wait() for worker in workers] == [0] * 4
    from tests.store.worker import IMAGES

    store = open_store(path)
    assert verify(store) == []
    assert_holds(store.run(), IMAGES)
    assert json.loads(json.dumps(store.info()))["images"] == len(IMAGES)
