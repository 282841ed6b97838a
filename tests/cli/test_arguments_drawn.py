"""Command lines drawn at random from flags and hostile words: none leaves a traceback."""

from __future__ import annotations

import io
import os
import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import kvtool
from kvtool.cli.app import app
from tests.support.runs import new_run
from tests.support.shell import Shell

pytestmark = pytest.mark.usefixtures("notes")

WORDS = [
    *[
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1",
        "3",
        "99999999999999999999",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "0x1",
        "1_0",
        "٣",
    ],
    *[
        "a" * 300,
        "b" * 5000,
        "\x1b[31m",
        "\n",
        "\t",
        "%s",
        "{}",
        "[red]",
        "$HOME",
        "~",
        "~nobody/x",
        "..",
        "/",
        "/dev/null",
    ],
    *[
        "\udce9",
        "\ud800",
        "a\0b",
        "é",
        "日本",
        "\u202e",
        "*",
        "?",
        "all",
        "none",
        "text:",
        "text:a",
        "file:",
        "file:/no",
    ],
    *[
        "0-3",
        "3-0",
        "0-",
        "-3",
        "1,,2",
        "key",
        "value,key",
        "keys",
        "vision:0:0",
        "value:0:0",
        "cpu",
        "cuda",
        "cuda:0",
    ],
    *[
        "mps",
        "auto",
        "early",
        "last:3",
        "last:" + "9" * 5000,
        "semantic-correspondence",
        "art-style",
        "random",
        "mean",
    ],
    *[
        "folder:",
        "folder:-",
        "folder:/no",
        "scenes@no",
        "spair71k:/no@test",
        "pope:/no",
        "mme:/no@all",
        "@",
        ":",
        "agnostic",
    ],
    *[
        "STORE",
        "FILE",
        "FOLDER",
        "FOLDER/new.png",
        "FILE/under.png",
        "no/new.html",
        "p.svg",
        "p.gif",
        "json",
        "fraction:nan",
    ],
]
"""Stand for values; those in capitals for a store, a file and a folder."""

SLOW = {"demo", "scenes", "serve"}
"""Commands that would draw worlds, or serve until Ctrl-C; their arguments are parsed by the same
code.
"""

QUICK_LINES, PROCESS_LINES = 150, 3


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        return [(path, command)]
    return [
        entry
        for name, sub in below.items()
        if name not in SLOW
        for entry in commands(sub, (*path, name))
    ]


def random_line(
    dice: random.Random, table: list[tuple[tuple[str, ...], Any]], paths: dict[str, str]
) -> list[str]:
    """A command with some of its flags and arguments, their values taken from WORDS."""

    def word() -> str:
        text = dice.choice(WORDS)
        for name, path in paths.items():
            text = text.replace(name, path)
        return text

    path, command = dice.choice(table)
    line = [*dice.choice([[], [], ["-q"], ["-v"]]), *path]
    for parameter in command.get_params(typer.Context(command)):
        required = parameter.required and dice.random() < 0.9
        if parameter.name == "help" or not (required or dice.random() < 0.3):
            continue
        if not parameter.opts[0].startswith("-"):
            line.append(paths["STORE"] if dice.random() < 0.5 else word())
        elif getattr(parameter, "is_flag", False):
            line.append(parameter.opts[0])
        else:
            line += [parameter.opts[0], word()]
    return line


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("{}\n")
    run = new_run(tmp_path / "s.kv")
    paths = {
        "STORE": str(run.store),
        "FILE": str(tmp_path / "file"),
        "FOLDER": str(tmp_path / "folder"),
    }
    dice, table = random.Random(7), commands(typer.main.get_command(app))
    return iter([random_line(dice, table, paths) for _ in range(QUICK_LINES)])


@pytest.mark.slow
def test_no_argument_leaves_a_traceback(
    lines: Iterator[list[str]], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in lines:
        code, _, err = shell(*line)
        assert 0 <= code <= 4, (line, err)
        assert not any("Traceback" in text or "fault of kvtool" in text for text in err), (
            line,
            err,
        )
        # With -v the first line is the command itself, however long its words are.
        messages = [text for text in err if not text.startswith(f"kvtool {kvtool.__version__}: ")]
        assert max(map(len, messages), default=0) < 12_000, line
    # Tests before this one in the same process may have taken more.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < max(peak_kb + 500_000, 2_000_000)


@pytest.mark.slow
def test_nor_does_one_in_a_process_of_its_own(lines: Iterator[list[str]]) -> None:
    """As the shell starts it: what holds in this process holds there, whatever the streams are."""
    runnable = (
        line for line in lines if not any("\0" in word or "\ud800" in word for word in line)
    )
    for line in [next(runnable) for _ in range(PROCESS_LINES)]:
        done = subprocess.run(
            [sys.executable, "-m", "kvtool", *map(os.fsencode, line)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert 0 <= done.returncode <= 4, line
        assert b"Traceback" not in done.stderr
        assert b"fault of kvtool" not in done.stderr
