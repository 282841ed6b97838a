"""The last net: whatever a command raises is one line and an exit code, on whatever streams."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvtool.cli import ending, signals
from kvtool.errors import BusyError, PartialError
from tests.support.shell import Shell

pytestmark = pytest.mark.alone

REPORT = (
    "this is a fault of kvtool: run again with -v (or KVTOOL_TRACEBACK=1) for the traceback, "
    "and report it"
)
KVTOOL = (sys.executable, "-m", "kvtool")


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which the net knows without importing torch."""


RAISED = {
    "a fault": (ValueError("no\nsuch   thing."), 1, f"ValueError: no such thing; {REPORT}"),
    "a fault without words": (AssertionError(), 1, f"AssertionError; {REPORT}"),
    "memory": (MemoryError(), 1, "out of memory; try a smaller"),
    "NumPy's memory": (
        MemoryError("Unable to allocate 8 GiB"),
        1,
        "out of memory: Unable to allocate 8 GiB; try",
    ),
    "torch's memory": (
        OutOfMemoryError("CUDA out of memory. Tried 2 GiB"),
        1,
        "out of memory: CUDA out of memory. Tr",
    ),
    "torch's memory of a CPU": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        1,
        "out of memory: Def",
    ),
    "recursion": (
        RecursionError("maximum depth"),
        1,
        "something is nested too deeply (maximum depth)",
    ),
    "CUDA": (
        RuntimeError("CUDA error: an illegal access"),
        1,
        "the device failed: CUDA error: an illegal access; see",
    ),
    "meta": (
        NotImplementedError("Cannot copy out of meta tensor; no data!"),
        1,
        "the device failed: Cannot copy",
    ),
    "metadata are no device": (
        RuntimeError("bad metadata"),
        1,
        f"RuntimeError: bad metadata; {REPORT}",
    ),
    "a file": (
        PermissionError(errno.EACCES, "Permission denied", b"a/b"),
        1,
        "a/b: Permission denied",
    ),
    "output": (
        OSError(errno.ENOSPC, "No space left on device"),
        1,
        "output: No space left on device",
    ),
    "busy": (BusyError("held"), 3, "held"),
    "terminal codes": (PartialError("\x1b[31mred\x1b[0m \x07 \udce9"), 4, r"red \x07 \udce9"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted; what was committed stays"),
}


@pytest.mark.parametrize("name", RAISED)
def test_what_is_raised_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code, message = RAISED[name]

    def command() -> int:
        raise error

    assert ending.run(command) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kvtool: {message}")


def test_a_long_argument_does_not_fill_the_screen() -> None:
    assert len(ending.one_line("x" * 1_000_000)) < 2100


@pytest.mark.slow
def test_tracebacks_where_they_are_asked_for(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With -v and in the log file; with KVTOOL_TRACEBACK always, and never else."""

    def fall(*_: object, **__: object) -> None:
        raise ZeroDivisionError("fell")

    monkeypatch.setattr("kvtool.cli.output.emit_rows", fall)
    monkeypatch.delenv(ending.TRACEBACK, raising=False)
    assert shell("models") == (1, "", [f"kvtool: ZeroDivisionError: fell; {REPORT}"])
    code, _, err = shell("-v", "models")
    assert code == 1
    assert "Traceback (most recent call last):" in err
    log = tmp_path / "log"
    assert len(shell("-q", "--log-file", log, "models")[2]) == 1
    assert "Traceback (most recent call last):" in log.read_text()
    monkeypatch.setenv(ending.TRACEBACK, "1")
    assert "Traceback (most recent call last):" in shell("-q", "models")[2]


def test_a_signal_names_the_end_whatever_it_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import or a lock that a signal interrupts may raise something else, or nothing at all."""
    for number, code, n_lines in ((signal.SIGTERM, 143, 0), (signal.SIGINT, 130, 1)):
        for raised in (ImportError("half a module"), RuntimeError("release unlocked lock"), None):
            stopped = signals.State()
            stopped.number = number
            monkeypatch.setattr(signals, "state", stopped)

            def command(raised: Exception | None = raised) -> int:
                if raised is not None:
                    raise raised
                return 0

            assert ending.run(command) == code
            assert len(capsys.readouterr().err.splitlines()) == (
                n_lines if raised is not None else 0
            )


SWALLOWED = """
import os, signal, sys, time
from kvtool.cli import ending, signals
signals.install()

class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)

def command():
    {body}
    while True:
        time.sleep(0.01)

sys.exit(ending.run(command))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        "Lost()",
        "try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)\n    except BaseException: pass",
        "os.kill(os.getpid(), signal.SIGTERM)",
    ],
)
def test_a_signal_that_code_swallows_comes_again(body: str) -> None:
    code = SWALLOWED.replace("{body}", body)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


@pytest.mark.slow
def test_no_signal_while_starting_leaves_a_traceback() -> None:
    """Once Python itself has started, whose own imports are not ours to guard."""
    random.seed(0)
    for turn in range(12):
        number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
        code = (
            "import kvtool.__main__ as m; print(flush=True); "
            "import sys; sys.argv[1:] = ['models']; m.main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0.005, 0.25))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 128 + number, -number)
        assert "Traceback" not in err
        assert len(err.splitlines()) <= 1


def shell_line(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash with `kvtool` in it."""
    command = f'kvtool() {{ "{sys.executable}" -m kvtool "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["models --format json", "models --format table", "extract -h", "--version"]
)
def test_streams_that_are_closed_or_full(words: str) -> None:
    assert shell_line(f"kvtool {words} >&-").returncode == 0
    assert shell_line(f"kvtool {words} >&-").stderr == ""
    assert shell_line(f"kvtool {words} 2>&-").stdout == shell_line(f"kvtool {words}").stdout
    assert shell_line(f"kvtool {words} 2>&- >&- <&-").returncode == 0
    piped = shell_line(f"(sleep 1; kvtool {words}; echo $? >&2) | true")
    assert piped.stderr == "141\n"
    if Path("/dev/full").exists():
        full = shell_line(f"kvtool {words} > /dev/full")
        assert (full.returncode, full.stderr) == (1, "kvtool: output: No space left on device\n")


@pytest.mark.slow
def test_a_closed_error_stream_does_not_hide_the_exit_code() -> None:
    assert shell_line("kvtool nosuch 2>&-").returncode == 2


@pytest.mark.slow
def test_output_that_is_not_utf8_is_escaped() -> None:
    """JSON stays JSON, and names of files that are no text are printed."""
    code = (
        "from kvtool.cli import streams, output; streams.prepare(); "
        "output.emit_rows([{'n': NAME}], FORMAT)"
    )
    for encoding, name, escaped in (
        ("ascii", "gr\u00f6\u00dfe \U0001f600", r"gr\u00f6\u00dfe \ud83d\ude00"),
        ("utf-8", "caf\udce9", r"caf\udce9"),
    ):
        for format in ("json", "csv", "table"):
            script = code.replace("NAME", ascii(name)).replace("FORMAT", repr(format))
            environment = {**os.environ, "PYTHONIOENCODING": encoding}
            done = subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            assert escaped in done.stdout
            assert done.stderr == ""
            if format == "json":
                assert json.loads(done.stdout) == [{"n": name}]
