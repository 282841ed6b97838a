"""Files that commands write: whole or not at all, never onto what is no regular file, and refused
before any work.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtool import outputs
from kvtool.errors import SpaceError, StoreError, UsageError
from kvtool.outputs import check_folder, check_output, is_regular, output_folder, write_output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_and_one_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert check_output(path, "-o") == path
    assert names(tmp_path) == []
    write_output(path, b"first", "-o")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    path.chmod(0o604)
    write_output(path, [b"sec", b"ond"], "-o")
    assert path.read_bytes() == b"second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert names(tmp_path) == ["a"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_readers_keep_the_old_file(tmp_path: Path) -> None:
    """A reader that has opened it reads on in what it opened."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_output(path, b"new and longer", "-o")
        assert reader.read() == b"old"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "real", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to("far/real")
    check_output(link, "-o")
    write_output(link, b"new", "-o")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert (names(tmp_path), names(tmp_path / "far")) == (["far", "link"], ["real"])


def test_a_fifo_that_nothing_reads_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "READER_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="fifo cannot be written: nothing reads this FIFO"):
        write_output(tmp_path / "fifo", b"a", "-o")


def test_a_fifo_is_written_into(tmp_path: Path) -> None:
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    check_output(fifo, "-o")
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write_output(fifo, [b"a", b"b"], "-o")
    reader.join()
    assert read == [b"ab"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert not is_regular(fifo)


def test_a_device_stays_a_device() -> None:
    for device in (os.devnull, "/dev/zero"):
        check_output(device, "-o")
        write_output(device, b"x" * 100_000, "-o")
        assert stat.S_ISCHR(Path(device).stat().st_mode)
    with pytest.raises(SpaceError, match=r"-o: /dev/full cannot be written: no space left"):
        write_output("/dev/full", b"x", "-o")


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_goes_on_where_it_is(path: str, tmp_path: Path) -> None:
    """A file behind it is neither replaced nor written from its start again."""
    code = f"""
from kvtool.outputs import check_output, write_output
print("before")
check_output({path!r}, "-o")
write_output({path!r}, b"data\\n", "-o")
print("after")
"""
    out = tmp_path / "out"
    with out.open("wb") as file:
        inode = out.stat().st_ino
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert out.read_text() == "before\ndata\nafter\n"
    assert out.stat().st_ino == inode


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    cases: list[tuple[object, type[Exception], str]] = [
        (tmp_path, UsageError, "-o: expected a file, found a folder"),
        (
            tmp_path / "no" / "a",
            UsageError,
            "-o: expected an existing folder, found none: .*/no; make it first",
        ),
        (tmp_path / "file" / "a", StoreError, "-o: .*/file/a cannot be written: Not a directory"),
        (tmp_path / "loop", StoreError, "-o: .*/loop cannot be written: Too many levels"),
        (tmp_path / ("x" * 300), StoreError, "cannot be written: File name too long"),
        ("a\0b", UsageError, r"-o: expected the name of a file, found 'a\\x00b'"),
        ("\ud800", UsageError, r"-o: expected the name of a file, found '\\ud800'"),
        ("/proc/a", StoreError, "-o: /proc/a cannot be written"),
    ]
    for path, error, message in cases:
        with pytest.raises(error, match=message):
            check_output(path, "-o")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected a folder, found a file"):
        check_folder(tmp_path / "file", "-o")
    with pytest.raises(StoreError, match="Not a directory"):
        check_folder(tmp_path / "file" / "a" / "b", "-o")
    check_output(tmp_path / "new" / "er" / "a", "-o", make_folder=True)
    check_folder(tmp_path / "new" / "er", "-o")
    assert names(tmp_path) == ["file", "loop"]


def test_half_a_file_is_never_there(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    path = tmp_path / "a"
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            write_output(path, broken(), "-o")
        assert names(tmp_path) == ([] if before is None else ["a"])
    assert path.read_bytes() == b"old"


def test_a_file_alone_in_a_mount_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container has it, or a folder of another user's: nothing can be renamed onto it."""

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    path = tmp_path / "a"
    path.write_bytes(b"old and longer")
    monkeypatch.setattr(Path, "replace", busy)
    write_output(path, b"new", "-o")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a"]
    with pytest.raises(StoreError, match="Device or resource busy"):
        write_output(tmp_path / "b", b"new", "-o")
    assert names(tmp_path) == ["a"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "d"
    with output_folder(folder, "--dir") as aside:
        (aside / "x").write_text("x")
        assert not folder.exists()
    assert names(folder) == ["x"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with output_folder(tmp_path / "link", "--dir") as aside:
        (aside / "y").write_text("y")
    assert names(tmp_path / "empty") == ["y"]
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), output_folder(tmp_path / "never", "--dir"):
            raise error
    target = tmp_path / "empty"
    with (
        pytest.raises(StoreError, match=r"--dir: .*/empty cannot be written"),
        output_folder(target, "--dir"),
    ):
        pass
    assert names(tmp_path) == ["empty", "link", "new"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SpaceError, match=r"-o: .*/a cannot be written: no space left on the disk"):
        write_output(path, b"new", "-o")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
