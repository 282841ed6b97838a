"""Sealed JSON, commits by rename, temporary folders, errors of the system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.errors import CorruptError, SpaceError, StoreError
from kvtool.store import durable, files, owners, sealed
from tests.support.runs import dead_process

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_sealed_json_round_trips(document: dict[str, object]) -> None:
    content = sealed.unsealed(
        sealed.sealed({sealed.SEAL: sealed.UNSEALED, "inner": document}), "here"
    )
    assert content["inner"] == document


def test_any_flipped_bit_of_sealed_json_is_found() -> None:
    data = bytearray(
        sealed.group_json(
            {"ids": ["a", "é"], "n": 10, sealed.SEAL + "s": '"kvtool_crc32c": "00000000"'}
        )
    )
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(CorruptError, match=r"^here: expected"):
                sealed.unsealed(bytes(data), "here")
            data[position] ^= 1 << bit
    assert sealed.unsealed(bytes(data), "here")["attributes"]["n"] == 10


def test_a_commit_moves_the_folder_once(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp" / "scratch"
    for name in ("first", "second"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "file").write_text(name)
    (tmp_path / "parts").mkdir()
    assert files.commit_folder(scratch / "first", tmp_path / "parts" / "p")
    assert not files.commit_folder(scratch / "second", tmp_path / "parts" / "p")
    assert (tmp_path / "parts" / "p" / "file").read_text() == "first"
    assert list(scratch.iterdir()) == []


def test_a_commit_syncs_files_then_folders_bottom_up_then_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(fd: int) -> None:
        calls.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real_fsync(fd)

    def rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    draft = tmp_path / "tmp" / "scratch" / "draft"
    (draft / "inner").mkdir(parents=True)
    (tmp_path / "parts").mkdir()
    files.write_file(draft / "inner" / "file", b"abc", memoryview(b"d"))
    files.commit_folder(draft, tmp_path / "parts" / "p")
    assert calls == ["file", "inner", "draft", "rename", "parts"]
    assert (tmp_path / "parts" / "p" / "inner" / "file").read_bytes() == b"abcd"


def test_scratch_folders_name_their_process_and_are_removed(tmp_path: Path) -> None:
    with files.scratch_folder(tmp_path) as first, files.scratch_folder(tmp_path) as second:
        assert first != second
        assert files.scratch_owner(first) == owners.this_process()
        assert files.is_stale_scratch(first) is False
    assert list((tmp_path / "tmp").iterdir()) == []


def test_scratch_of_a_dead_process_is_stale_and_of_a_process_nobody_sees_unknown(
    tmp_path: Path,
) -> None:
    def left(process: owners.Process) -> Path:
        folder = tmp_path / f"{process.tag}-0"
        folder.mkdir()
        return folder

    assert files.is_stale_scratch(left(dead_process())) is True
    assert files.is_stale_scratch(left(dead_process(host="elsewhere"))) is None
    assert files.is_stale_scratch(left(dead_process(boot="0" * 12))) is None
    assert files.is_stale_scratch(left(dead_process(space="1_2"))) is None
    assert files.is_stale_scratch(tmp_path / "holiday") is None


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let so many seconds pass on the clock that nobody sets."""
    passed = [0.0]
    now = time.monotonic
    monkeypatch.setattr(files, "_watch", owners.Watch())
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])

    def wait(seconds: float) -> None:
        passed[0] += seconds

    return wait


def test_scratch_of_a_process_nobody_sees_is_stale_when_it_is_old_and_seen_to_be_left_alone(
    tmp_path: Path, watch: Callable[[float], None]
) -> None:
    folder = tmp_path / "tmp" / f"{dead_process(host='elsewhere').tag}-0"
    folder.mkdir(parents=True)
    for age_s, stale in (
        (files.SCRATCH_EXPIRY_S - 60, None),
        (files.SCRATCH_EXPIRY_S + 60, True),
        (-1e6, None),
    ):
        os.utime(folder, (time.time() - age_s,) * 2)
        assert files.is_stale_scratch(folder) is None
        assert files.sweep_scratch(tmp_path) == []
        watch(owners.WATCH_S + 1)
        assert files.is_stale_scratch(folder) is stale
        assert files.sweep_scratch(tmp_path) == [folder.name] * bool(stale)
        folder.mkdir(exist_ok=True)


@pytest.mark.parametrize("step_s", [2 * files.SCRATCH_EXPIRY_S, -2 * files.SCRATCH_EXPIRY_S])
def test_a_jump_of_the_clock_sweeps_nothing_whose_owner_touches_it(
    tmp_path: Path, watch: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """Of another machine: neither its process nor its lock can be seen."""
    folder = tmp_path / "tmp" / f"{dead_process(host='elsewhere').tag}-0"
    folder.mkdir(parents=True)
    monkeypatch.setattr(owners, "server_now_s", lambda _: time.time() + step_s)
    for _ in range(5):
        assert files.sweep_scratch(tmp_path) == []
        watch(owners.HEARTBEAT_S)
        os.utime(folder)
    assert folder.is_dir()
    watch(owners.WATCH_S)
    files.sweep_scratch(tmp_path)
    watch(owners.WATCH_S)
    assert files.sweep_scratch(tmp_path) == [folder.name] * (step_s > 0)


def test_a_scratch_folder_whose_lock_is_held_is_never_swept(
    tmp_path: Path, watch: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "untouched_s", lambda _: 1e9)
    tag = dead_process(space="1_2").tag
    folder = tmp_path / "tmp" / f"{tag}-0"
    folder.mkdir(parents=True)
    with owners.locked(folder):
        for _ in range(3):
            assert files.is_stale_scratch(folder) is False
            assert files.sweep_scratch(tmp_path) == []
            watch(owners.WATCH_S + 1)
        assert owners.is_locked(folder)
    assert not owners.is_locked(folder)
    files.sweep_scratch(tmp_path)
    watch(owners.WATCH_S + 1)
    with files.scratch_folder(tmp_path) as mine:  # a later scratch folder looks again
        assert list((tmp_path / "tmp").iterdir()) == [mine]


@pytest.mark.slow
def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from kvtool.store import files
with files.scratch_folder(Path({str(tmp_path)!r})) as folder:
    print(folder, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().decode().strip())
        assert owners.is_locked(folder)
        child.kill()
    assert not owners.is_locked(folder)
    assert files.is_stale_scratch(folder) is True


def test_a_commit_reads_back_what_was_written(tmp_path: Path) -> None:
    def draft(number: int) -> tuple[Path, dict[str, durable.FileRecord]]:
        folder = tmp_path / "tmp" / "scratch" / f"part{number}"
        (folder / "key").mkdir(parents=True)
        return folder, {
            "zarr.json": durable.write_recorded(folder / "zarr.json", b"{", b"}"),
            "key/c": durable.write_recorded(folder / "key" / "c", b"12345"),
        }

    (tmp_path / "parts").mkdir()
    tmp, checksums = draft(0)
    assert checksums["zarr.json"] == (2, files.crc32c(b"{}"))
    assert files.commit_folder(tmp, tmp_path / "parts" / "p", checksums)
    for number, damage in enumerate((None, b"1234", b"12346")):
        tmp, checksums = draft(number + 1)
        (tmp / "key" / "c").unlink()
        if damage is not None:
            (tmp / "key" / "c").write_bytes(damage)
        with pytest.raises(
            durable.TornError, match=r"key/c: expected 5 bytes.*while it was written: run again"
        ):
            files.commit_folder(tmp, tmp_path / "parts" / f"q{number}", checksums)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["p"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"12346")])
def test_what_is_torn_while_it_is_renamed_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    tmp, parts = tmp_path / "tmp" / "scratch" / "part", tmp_path / "parts"
    tmp.mkdir(parents=True)
    parts.mkdir()
    checksums = {name: durable.write_recorded(tmp / name, b"12345") for name in ("a", "b")}
    rename = Path.rename

    def torn(self: Path, target: Path) -> Path:
        if self == tmp:
            damage(tmp / "b")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", torn)
    with pytest.raises(durable.TornError, match=r"b: expected 5 bytes.*found"):
        files.commit_folder(tmp, parts / "p", checksums)
    assert list(parts.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, SpaceError), (errno.EDQUOT, SpaceError), (errno.EACCES, StoreError)],
)
def test_errors_of_the_system_become_ours_in_one_line(
    number: int, expected: type[StoreError]
) -> None:
    with pytest.raises(expected) as caught, files.os_errors("part p: cannot be written"):
        raise OSError(number, os.strerror(number), "/some/file")
    assert type(caught.value) is expected
    assert str(caught.value).startswith("part p: cannot be written: ")
    assert "\n" not in str(caught.value)
