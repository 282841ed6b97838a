"""What a command reads from its user: files, pipes, FIFOs and standard input."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from kvtool import inputs
from kvtool.asking.heads import read_rows
from kvtool.errors import UsageError
from kvtool.inputs import read_input


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_a_fifo_into_which_nobody_writes_is_refused(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "WRITER_WAIT_S", 0.1)
    with pytest.raises(
        UsageError, match=r"fifo: expected .* readable file of JSON lines, found: a FIFO into which"
    ):
        read_rows(str(fifo))


def test_a_fifo_is_read_to_its_end(fifo: Path) -> None:
    writer = threading.Thread(target=fifo.write_bytes, args=(b"x" * 200_000,))
    writer.start()
    assert read_input(fifo, 1 << 20) == b"x" * 200_000
    writer.join()


def test_a_pipe_named_as_shells_name_it_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"layer": 1, "kv_head": 2}\n')
    os.close(writing)
    assert [row for _, row in read_rows(f"/dev/fd/{reading}")] == [{"layer": 1, "kv_head": 2}]
    os.close(reading)


def test_what_is_no_file_or_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="not a regular file or a pipe"):
        read_input("/dev/zero", 10)
    (tmp_path / "long").write_bytes(b"12345")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    for source in (tmp_path / "long", "-"):
        with pytest.raises(OSError, match="more than the limit of 4 bytes"):
            read_input(source, 4)
