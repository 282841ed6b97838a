"""What a person sees of a long command: a bar on a terminal, a line now and then on a pipe, nothing
with -q.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvtool.cli import app, console
from kvtool.progress import ProgressTally
from kvtool.result import Result


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.05)
    console.configure(quiet=False, verbose=False, log_file=None)
    yield
    console.configure(quiet=False, verbose=False, log_file=None)


def test_a_pipe_hears_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("extract x", 40, done=10, unit="images") as advance:
        advance(10, "1.5 MB written")
        time.sleep(0.2)
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) >= 2
    assert re.fullmatch(
        r"extract x: 20 of 40 images, [\d.]+/s, 0:00:0\d left, 1\.5 MB written", lines[-1]
    )
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_command_that_does_not_advance_is_heard_too(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("search: building the index", None, unit="patches") as advance:
        time.sleep(0.2)
        advance(5, "", 20)
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "search: building the index: at work for 0:00:00"
    assert lines[-1].startswith("search: building the index: 5 of 20 patches, ")


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), console.progress("x", 3):
        raise ValueError("broken")
    capsys.readouterr()
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=True, verbose=False, log_file=None)
    with console.progress("x", 3) as advance:
        advance(1, "note", 5)
        time.sleep(0.15)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("count", "seconds", "line"),
    [
        (50, 10, "x: 60 of 110 blocks, 5.0/s, 0:00:10 left"),
        (5, 10, "x: 15 of 110 blocks, 30.0/min, 0:03:10 left"),
        (1, 3600, "x: 11 of 110 blocks, 1.0/h, 4 days, 3:00:00 left"),
    ],
)
def test_slow_work_has_a_rate_too(count: int, seconds: float, line: str) -> None:
    tally = ProgressTally(110, 10, started=time.monotonic() - seconds)
    tally.add(count, "", None)
    assert tally.line("x", "blocks") == line


def on_a_terminal(*command: str | Path) -> tuple[str, str]:
    """Standard output, a pipe, and what a terminal of 120 columns got from standard error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    screen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux' way to say that the other end is closed
            break
        if not piece:
            break
        screen += piece
    assert process.stdout is not None
    out = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == 0, screen.decode()
    os.close(ours)
    return out, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())


@pytest.mark.slow
def test_a_terminal_has_a_bar_and_data_stay_on_standard_output() -> None:
    code = """
import time
from kvtool.cli import console
console.configure(quiet=False, verbose=False, log_file=None)
with console.progress("variance", 10, unit="parts") as advance:
    for number in range(6):
        advance(1, "key layer 3", 12)
        time.sleep(0.1)
    print("data")
    console.log.info("a note")
"""
    out, screen = on_a_terminal(sys.executable, "-c", code)
    assert out == "data\n"
    assert re.search(r"variance .* 6/12 parts [\d.]+/s 00:0\d 0:00:0\d key layer 3", screen)
    assert re.search(r"[\r\n]a note *\r\n", screen), screen


@pytest.mark.slow
def test_extract_on_a_terminal(tmp_path: Path, tiny_model: Path, pictures: Path) -> None:
    arguments = ("--model", tiny_model, "--dataset", f"folder:{pictures}", "--devices", "cpu")
    out, screen = on_a_terminal(
        sys.executable, "-m", "kvtool", "extract", tmp_path / "s.kv", *arguments
    )
    assert '"extracted": 70' in out
    assert re.search(r"extract \S+ .*\d+/70 images [\d.]+/(s|min) .*\d [kM]?B written", screen)


@pytest.mark.slow
def test_extract_in_cron(
    tmp_path: Path,
    tiny_model: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.01)
    command = [
        "extract",
        tmp_path / "s.kv",
        "--model",
        tiny_model,
        "--dataset",
        f"folder:{pictures}",
    ]
    for quiet in (["-q"], []):
        monkeypatch.setattr(
            sys, "argv", ["kvtool", *quiet, *map(str, command), "--run", f"r{len(quiet)}"]
        )
        with pytest.raises(SystemExit) as stop:
            app.main()
        assert stop.value.code in (0, None)
        lines = capsys.readouterr().err.splitlines()
        assert bool(lines) != bool(quiet)
    assert any(
        re.fullmatch(r"extract r0: \d+ of 70 images, .* left, .*B written.*", line)
        for line in lines
    )


@pytest.mark.slow
def test_every_step_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(_: Path, *, step: Callable[[str], None], **__: object) -> Iterator[Result]:
        step("extracting")
        time.sleep(0.2)
        row = {"kind": "value", "j_mean": 0.5}
        yield Result("probe", "co-segmentation", "j_mean", 1, [row], best=row)
        step("probing")
        time.sleep(0.2)

    monkeypatch.setattr("kvtool.demo.study.run_demo", slow)
    monkeypatch.setattr("kvtool.cli.demo._next", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["kvtool", "demo", str(tmp_path)])
    with pytest.raises(SystemExit):
        app.main()
    captured = capsys.readouterr()
    # A pipe has the summary, too, and no rows.
    summary = captured.out.splitlines()
    assert summary[0].startswith("best values")
    assert summary[-1].split() == ["co-segmentation", "1", "50.0", "-"]
    lines = captured.err.splitlines()
    assert {line for line in lines if "at work" in line} == {
        f"{w}: at work for 0:00:00" for w in ("extracting", "probing")
    }
    assert [line for line in lines if "at work" not in line][:2] == ["1. extracting", "2. probing"]


def test_what_a_terminal_would_obey_is_escaped(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the log file too; a tab and the lines of a traceback stay."""
    console.configure(quiet=False, verbose=True, log_file=tmp_path / "log")
    console.log.debug("%s", "a\x1b[31mred\rb\tc\nd é")
    assert capsys.readouterr().err == "a\\x1b[31mred\\rb\tc\nd é\n"
    assert "a\\x1b[31mred\\rb\tc\nd é\n" in (tmp_path / "log").read_text()
