"""What Typer itself refuses: one line on standard error and exit code 2, as for errors of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from kvtool.cli import app
from tests.support.runs import new_run


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kvtool", *arguments])
    with pytest.raises(SystemExit) as stop:
        app.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("probe s TASK --nope", "kvtool: probe: No such option: --nope: see kvtool probe -h"),
        ("extract", "kvtool: extract: Missing option '--model': see kvtool extract -h"),
        ("nosuch", "kvtool: No such command 'nosuch': see kvtool -h"),
        ("store nosuch", "kvtool: store: No such command 'nosuch': see kvtool store -h"),
        ("--nope", "kvtool: No such option: --nope: see kvtool -h"),
        ("score davis --data", "kvtool: Option '--data' requires an argument"),
        ("data scenes x --size huge", "kvtool: data scenes: Invalid value for '--size': "),
    ],
)
def test_one_line(
    arguments: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments.split()) == 2
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("arguments", [(), ("store",)])
def test_a_group_alone_prints_its_help(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    assert "Commands:" in capsys.readouterr().err


def test_help_and_version_are_no_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("--version",), ("-h",), ("store", "info", "-h")):
        assert call(monkeypatch, *arguments) == 0
        found = capsys.readouterr()
        assert found.out
        assert found.err == ""


def test_no_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no(*_: object, **__: object) -> None:
        raise typer.Abort

    run = new_run(tmp_path / "s.kv")
    monkeypatch.setattr(typer, "confirm", no)
    assert call(monkeypatch, "store", "remove", str(run.store), run.name) == 1
    # The prompt stands in a line of its own, whether its answer ended with a line break or not.
    assert capsys.readouterr().err == "\nkvtool: aborted: nothing was changed\n"
    assert run.folder.is_dir()
