"""Sealed JSON, commits by rename, temporary folders, errors of the system."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.errors import CorruptError, SpaceError, StoreError
from kvtool.store import files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_sealed_json_round_trips(document: dict[str, object]) -> None:
    found = files.unsealed(files.sealed({files.SEAL: files.UNSEALED, "inner": document}), "here")
    assert found["inner"] == document


def test_any_flipped_bit_of_sealed_json_is_found() -> None:
    data = bytearray(files.group_json({"ids": ["a", "é"], "n": 10, files.SEAL + "s": '"kvtool_crc32c": "00000000"'}))
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            with pytest.raises(CorruptError, match=r"^here: expected"):
                files.unsealed(bytes(data), "here")
            data[position] ^= 1 << bit
    assert files.unsealed(bytes(data), "here")["attributes"]["n"] == 10


def test_a_commit_moves_the_folder_once(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "parts").mkdir()
    assert files.commit_folder(tmp_path / "first", tmp_path / "parts" / "p")
    assert not files.commit_folder(tmp_path / "second", tmp_path / "parts" / "p")
    assert (tmp_path / "parts" / "p" / "file").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]


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
    (tmp_path / "tmp" / "inner").mkdir(parents=True)
    (tmp_path / "parts").mkdir()
    files.write_file(tmp_path / "tmp" / "inner" / "file", b"abc", memoryview(b"d"))
    files.commit_folder(tmp_path / "tmp", tmp_path / "parts" / "p")
    assert calls == ["file", "inner", "tmp", "rename", "parts"]
    assert (tmp_path / "parts" / "p" / "inner" / "file").read_bytes() == b"abcd"


def test_scratch_folders_name_their_process_and_are_removed(tmp_path: Path) -> None:
    with files.scratch_folder(tmp_path) as one, files.scratch_folder(tmp_path) as two:
        assert one != two
        assert re.fullmatch(rf"{re.escape(files.host_name())}-{os.getpid()}-\d+", one.name)
        assert files.is_stale_scratch(one) is False
    assert list((tmp_path / "tmp").iterdir()) == []


def test_scratch_of_a_dead_process_is_stale_and_of_another_host_unknown(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    left = tmp_path / f"{files.host_name()}-{dead.pid}-0"
    left.mkdir()
    assert files.is_stale_scratch(left) is True
    assert files.is_stale_scratch(tmp_path / "elsewhere-12-0") is None
    assert files.is_stale_scratch(tmp_path / "holiday") is None


def test_a_pid_used_again_by_a_younger_process_counts_as_dead() -> None:
    assert files.process_alive(os.getpid(), time.time())
    assert not files.process_alive(os.getpid(), time.time() - 1e6)


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 30
    while files.process_alive(child.pid, time.time()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not files.process_alive(child.pid, time.time())
    child.wait()


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, SpaceError), (errno.EDQUOT, SpaceError), (errno.EACCES, StoreError)]
)
def test_errors_of_the_system_become_ours_in_one_line(number: int, expected: type[StoreError]) -> None:
    with pytest.raises(expected) as caught, files.os_errors("part p: cannot be written"):
        raise OSError(number, os.strerror(number), "/some/file")
    assert type(caught.value) is expected
    assert str(caught.value).startswith("part p: cannot be written: ")
    assert "\n" not in str(caught.value)
