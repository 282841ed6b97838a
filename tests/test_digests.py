"""Digests of files: equal to those of their bytes, hashed once, and never from a memory that is out
of date.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from kvtool import digests


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KVTOOL_CACHE", str(folder))
    return folder


def settled(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was written long enough ago to be remembered."""
    path.write_bytes(data)
    monkeypatch.setattr(digests, "_RACY_NS", -1)
    return path


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed from now on."""
    seen: list[Path] = []
    before = digests._hash

    def listening(path: Path) -> tuple[str, digests.Stamp | None]:
        seen.append(path)
        return before(path)

    monkeypatch.setattr(digests, "_hash", listening)
    return seen


def test_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(9_000_000)
    (tmp_path / "f").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()[:32]
    assert digests.digest_file(tmp_path / "f") == expected == digests.digest_bytes(data)
    assert digests.read_stamped(tmp_path / "f", 10**7)[0] == data


@pytest.mark.slow
def test_unchanged_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [settled(tmp_path / f"{i}", b"%d" % i, monkeypatch) for i in range(1200)]
    first = digests.digest_files(files)
    seen = hashed(monkeypatch)
    assert digests.digest_files(files) == first
    assert not seen
    files[7].write_bytes(b"8")
    assert digests.digest_files(files)[files[7]] == digests.digest_bytes(b"8")
    assert seen == [files[7]]


def test_same_size_and_time_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = settled(tmp_path / "f", b"aaaa", monkeypatch)
    first = digests.digest_file(file)
    times = file.stat()
    file.write_bytes(b"bbbb")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digests.digest_file(file) == digests.digest_bytes(b"bbbb") != first


def test_a_file_changed_just_now_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    digests.digest_file(tmp_path / "f")
    seen = hashed(monkeypatch)
    digests.digest_file(tmp_path / "f")
    assert seen == [tmp_path / "f"]


def test_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    odd = ["nothing", "fifo", "", "loop", "nul\0"]
    assert set(digests.digest_files(tmp_path / name for name in odd).values()) == {""}


def test_damaged_memory_is_begun_anew(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settled(tmp_path / "f", b"x", monkeypatch)
    cache.mkdir()
    (cache / "digests.sqlite").write_bytes(b"no database at all, " * 99)
    for _ in range(3):
        assert digests.digest_file(file) == digests.digest_bytes(b"x")
    seen = hashed(monkeypatch)
    digests.digest_file(file)
    assert not seen


def test_memory_that_cannot_be_written_costs_only_time(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settled(tmp_path / "f", b"x", monkeypatch)
    cache.write_text("a file where the folder should be")
    assert digests.digest_file(file) == digests.digest_bytes(b"x")


def test_locked_memory_is_passed_over(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settled(tmp_path / "f", b"x", monkeypatch)
    digests.digest_file(file)
    monkeypatch.setattr(digests, "_BUSY_S", 0.01)
    connection = sqlite3.connect(cache / "digests.sqlite")
    connection.execute("BEGIN EXCLUSIVE")
    assert digests.digest_file(file) == digests.digest_bytes(b"x")
    connection.close()


def test_texts_do_not_run_together() -> None:
    assert digests.digest_texts(["ab", "c"]) != digests.digest_texts(["a", "bc"])
    assert digests.digest_texts(["\udcff"]) != digests.digest_texts(["?"])


def test_recall_gives_back_what_was_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "f", b"data", monkeypatch)
    stamp = digests.quick_look(path)
    assert stamp is not None
    assert digests.recall([path]) == {}
    digests.remember({f"{path}#a": ("12", stamp), path: ("34", stamp)})
    assert digests.recall([path, f"{path}#a", f"{path}#b"]) == {
        path: ("34", stamp),
        Path(f"{path}#a"): ("12", stamp),
    }
