"""Commands as a shell sees them: run in this process, and what the shell offers at Tab."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

Outcome = tuple[int, str, list[str]]
"""How a command ended: exit code, standard output, lines of standard error."""
Shell = Callable[..., Outcome]
"""Runs `kvtool ARGUMENT...`; the fixture `shell` gives one."""
LineShell = Callable[..., tuple[int, list[str], list[str]]]


def in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Return a shell that runs commands in this process, as `python -m kvtool` would."""
    from kvtool.cli import app

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["kvtool", *map(str, arguments)])
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err.splitlines()

    return run


def in_lines(shell: Shell, *command: str) -> LineShell:
    """Return a shell for one command, whose standard output comes as lines too."""

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        code, out, err = shell(*command, *arguments)
        return code, out.splitlines(), err

    return run


def complete(line: str, **environment: str) -> list[str]:
    """What bash is offered for the last word of a line, which may be empty."""
    words = line.split(" ")
    completion = {
        "_KVTOOL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        **environment,
    }
    code = "import sys; sys.argv = ['kvtool']; from kvtool.__main__ import main\n"
    code += "try: main()\n"
    code += "finally: print('torch' in sys.modules or 'numpy' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **completion},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "False\n"
    return done.stdout.split()
