"""Arguments that nobody should give: refused in one line with exit code 2, before anything is
opened or allocated.
"""

from __future__ import annotations

import io
import math
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import kvtool
from kvtool.bounds import BOUNDS, check_number, check_options
from kvtool.cli import console
from kvtool.cli.app import app
from kvtool.errors import UsageError
from kvtool.store import Run
from tests.support.runs import new_run
from tests.support.shell import Shell


@pytest.fixture(autouse=True)
def notes() -> Iterator[None]:
    """Notes go to standard error, as if no command had been there before."""
    console.configure(quiet=False, verbose=False, log_file=None)
    yield
    console.configure(quiet=False, verbose=False, log_file=None)


REFUSED = [
    "probe s all --seed -1",
    "probe s all --seed 4294967296",
    "probe s all --layers 0-999999999",
    "probe s all --layers " + "9" * 5000,
    "probe s all --heads 0-99999999",
    "probe s all --limit 0",
    "probe s all --limit " + "9" * 30,
    "probe s all --limit " + "9" * 5000,
    "probe s all --episodes 1000000000000",
    "probe s all --c nan",
    "probe s all --c inf",
    "probe s all --c 0",
    "probe s all --device mps",
    "probe s all --device meta",
    "probe s all --device cuda:99999999999",
    "paired s art-style --folds 1",
    "paired s art-style --n 0",
    "paired s art-style --max-new-tokens 99999999999",
    "knockout s --benchmark scenes --heads - --draws 1000000000",
    "knockout s --benchmark scenes --heads - --device xpu",
    "prefix s referring-expression --device CUDA",
    "correlate s --device cpu:0",
    "search s --image a --at nan,1",
    "search s --image a --at 1e308,1",
    "search s --image a --at 1,2 -k 99999999999",
    "search s --image a --at 1,2 --layer -1",
    "variance s --threshold nan",
    "variance s --threshold inf",
    "variance s --seed x",
    "show s --image a -o a.png --block value:99999999999999:1",
    "show s --image a -o a.png --limit 0",
    "report s -o a.html --examples -1",
    "report s -o a.html --blocks 99999999999",
    "extract s --model m --dataset scenes --wait nan",
    "extract s --model m --dataset scenes --wait inf",
    "extract s --model m --dataset scenes --wait -1",
    "extract s --model m --dataset scenes --batch-size 0",
    "extract s --model m --dataset scenes --devices cpu,mps",
    "extract s --model m --dataset scenes --devices cpu,",
    "extract s --model m --dataset scenes --min-free-vram 1e999GB",
    "data scenes d --seed -1",
    "data scenes d --seed 99999999999",
]


@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line[:60])
def test_refused_in_one_line(
    line: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = shell(*line.split(" "))
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("kvtool: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
@pytest.mark.parametrize(
    "line",
    [
        "store info X",
        "probe s X",
        "report s -o p.html --title X",
        "extract s --model X --dataset folder:X",
        "X",
    ],
)
def test_text_that_is_none(line: str, text: str, shell: Shell) -> None:
    code, out, err = shell(*(text if word == "X" else word for word in line.split()))
    assert (code, out, len(err)) == (2, "", 1)
    assert "expected text in UTF-8 without a NUL, found" in err[0]


@pytest.mark.parametrize(
    ("name", "value"), [("SEED", "x"), ("SEED", "-1"), ("C", "nan"), ("DEVICE", "mps")]
)
def test_flags_of_the_environment_are_no_exception(
    name: str, value: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"KVTOOL_PROBE_{name}", value)
    code, out, err = shell("probe", "s", "all")
    assert (code, out, len(err)) == (2, "", 1)
    assert f"--{name.lower()}" in err[0]


Call = Callable[[], object]


def wrong_extractions(run: Run) -> list[tuple[Call, str]]:
    """Calls of `extract` that cannot be served, and what their error says."""
    return [
        (
            lambda: kvtool.extract(run.store, model="m", dataset=[3]),  # type: ignore[list-item]
            "dataset: expected a list of paths",
        ),
        (
            lambda: kvtool.extract(
                run.store,
                model=None,  # type: ignore[arg-type]
                dataset="scenes",
            ),
            "model: expected a text, found NoneType",
        ),
        (
            lambda: kvtool.extract("a\0b", model="m", dataset="scenes"),
            "store: expected text in UTF-8 without a NUL",
        ),
        (
            lambda: kvtool.extract(run.store, model="m", dataset="scenes", prefix="text:\udce9"),
            "prefix: expected text",
        ),
        (
            lambda: kvtool.extract(run.store, model="m", dataset="scenes", wait_s=math.nan),
            "wait_s: expected a number",
        ),
    ]


def wrong_analyses(run: Run, page: Path) -> list[tuple[Call, str]]:
    """Other calls that cannot be served, and what their error says."""
    return [
        (lambda: kvtool.open("a\0b"), "store: expected text"),
        (
            lambda: kvtool.probe(run, "all", seed=-1),
            "seed: expected a whole number from 0 to 4294967295, found -1",
        ),
        (
            lambda: kvtool.probe(run, "all", seed=0.5),  # type: ignore[arg-type]
            "seed: expected a whole number",
        ),
        (
            lambda: kvtool.probe(run, "all", layers=range(10**9)),
            "layers: expected 100000 numbers at most",
        ),
        (lambda: kvtool.probe(run, "all", limit=True), "limit: expected a whole number"),
        (
            lambda: kvtool.variance(run, seed="1"),  # type: ignore[arg-type]
            "seed: expected a whole number from 0 to 4294967295, found '1'",
        ),
        (lambda: kvtool.report(run.store, page, title="\ud800"), "title: expected text"),
        (lambda: kvtool.score("pope", answers="\ud800"), "answers: expected text"),
        (lambda: kvtool.search(run, "a", (0, 0), k=10**4000), "k: expected a whole number"),
    ]


def test_the_same_from_python(tmp_path: Path) -> None:
    run = new_run(tmp_path / "s.kv")
    for call, message in wrong_extractions(run) + wrong_analyses(run, tmp_path / "p"):
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_hold_their_ends(name: str) -> None:
    low, high = BOUNDS[name]
    for fine in (low, high):
        check_number(name, fine)
    for bad in (low - 1, high + 1, math.nan, math.inf, None, "1", 10**5000, 1j):
        with pytest.raises(UsageError, match=f"^{name}: expected"):
            check_number(name, bad)
    check_options({name: None})


def test_numbers_of_other_libraries_will_do() -> None:
    import numpy as np

    check_options({"seed": np.int64(3), "c": np.float32(0.5), "layers": np.arange(3)})


# A few hundred command lines at random

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
SLOW = {"demo", "scenes"}
"""Commands that would draw worlds; their arguments are parsed by the same code."""
QUICK_LINES, PROCESS_LINES = 400, 6


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
    for line in lines:
        code, _, err = shell(*line)
        assert 0 <= code <= 4, (line, err)
        assert not any("Traceback" in text or "fault of kvtool" in text for text in err), (
            line,
            err,
        )
        assert max(map(len, err), default=0) < 12_000, line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000  # kB


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
