"""What Typer itself refuses: one line on standard error and exit code 2, as for errors of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tests.support.runs import new_run
from tests.support.shell import Shell


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("probe s TASK --zzz", "kvtool: probe: No such option: --zzz: see kvtool probe -h"),
        ("extract", "kvtool: extract: Missing option '--model': see kvtool extract -h"),
        ("nosuch", "kvtool: No such command 'nosuch': see kvtool -h"),
        ("store nosuch", "kvtool: store: No such command 'nosuch': see kvtool store -h"),
        ("--nope", "kvtool: No such option: --nope: see kvtool -h"),
        ("score davis --data", "kvtool: Option '--data' requires an argument"),
        ("data scenes x --size huge", "kvtool: data scenes: Invalid value for '--size': "),
    ],
)
def test_one_line(arguments: str, message: str, shell: Shell) -> None:
    code, out, (line,) = shell(*arguments.split())
    assert (code, out) == (2, "")
    assert line.startswith(message)


@pytest.mark.sampled
@pytest.mark.parametrize("arguments", [(), ("store",)])
def test_a_group_alone_prints_its_help(arguments: tuple[str, ...], shell: Shell) -> None:
    code, _, err = shell(*arguments)
    assert code == 2
    assert "Commands:" in "\n".join(err)


@pytest.mark.slow
def test_help_and_version_are_no_errors(shell: Shell) -> None:
    for arguments in (("--version",), ("-h",), ("store", "info", "-h")):
        code, out, err = shell(*arguments)
        assert (code, err) == (0, [])
        assert out


def test_no_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell) -> None:
    def no(*_: object, **__: object) -> None:
        raise typer.Abort

    run = new_run(tmp_path / "s.kv")
    monkeypatch.setattr(typer, "confirm", no)
    # The prompt stands in a line of its own, whether its answer ended with a line break or not.
    code, out, lines = shell("store", "remove", run.store, run.name)
    assert (code, out, lines[-1]) == (1, "", "kvtool: aborted: nothing was changed")
    assert run.folder.is_dir()
