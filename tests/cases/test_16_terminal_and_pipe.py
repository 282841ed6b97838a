"""Standard output as a terminal, a pipe, a full disk or nothing at all, in any width and
encoding.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kvtool
from tests.support.shell import complete

pytestmark = pytest.mark.alone

KVTOOL = (sys.executable, "-m", "kvtool")
NAMES = (
    "llava_onevision-folder-pictures-8556c845",
    "llava_onevision-folder-photographs-of-a-year-12ab34cd",
)


@pytest.fixture(scope="module")
def store(tiny_model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    source = {"model": str(tiny_model), "dataset": f"folder:{photos}", "kinds": ["vision"]}
    for name, prefix in zip(NAMES, ("none", "random"), strict=True):
        kvtool.extract(path, run=name, prefix=prefix, **source)  # type: ignore[arg-type]
    return path


def environment(**variables: str) -> dict[str, str]:
    plain = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    return plain | {"TERM": "xterm-256color", **variables}


def ran(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command whose output is a pipe."""
    command = [*KVTOOL, *map(str, words)]
    done = subprocess.run(
        command,
        capture_output=True,
        encoding=variables.get("PYTHONIOENCODING", "utf-8"),
        check=False,
        env=environment(**variables),
    )
    assert "Traceback" not in done.stderr
    return done


def on_terminal(*words: object, **variables: str) -> str:
    """What a terminal shows of a command that ends well."""
    ours, theirs = pty.openpty()
    command = [*KVTOOL, *map(str, words)]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment(**variables))
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 65536):
            screen += piece
    except OSError:  # Linux' way to say that the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return screen.decode()


def shell_line(line: str, store: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash with `kvtool` and $S, the store, in it."""
    script = f'kvtool() {{ "{sys.executable}" -m kvtool "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment(S=str(store)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_names_of_runs_can_be_copied_from_a_table(store: Path, columns: int) -> None:
    opened = kvtool.open(store)
    for screen in (
        on_terminal("store", "runs", store, COLUMNS=str(columns)),
        ran("store", "runs", store, "--format", "table", COLUMNS=str(columns)).stdout,
    ):
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in screen.splitlines()]
        # Where columns are few each run is lines of names and values, its own name in full.
        words = [line.removeprefix("run:").split()[:1] for line in lines]
        run_names = [word for (word,) in filter(None, words) if word.startswith("llava")]
        assert [opened.run(name).name for name in run_names] == sorted(NAMES), screen
        assert columns < 80 or all(len(line) <= columns for line in lines)


@pytest.mark.slow
def test_a_reader_that_leaves_early(store: Path) -> None:
    for format in ("jsonl", "table"):
        done = shell_line(
            f"kvtool store runs $S --format {format} | head -1; echo ${{PIPESTATUS[0]}}", store
        )
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] in ("0", "141")


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_encodings_other_than_utf8(store: Path, variables: dict[str, str]) -> None:
    for words in (
        ("store", "info", store, "--format", "table"),
        ("store", "runs", store, "--format", "table"),
    ):
        done = ran(*words, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii() or "latin" in variables.get("PYTHONIOENCODING", "")
    assert ran("probe", "--help", **variables).returncode == 0
    assert len(json.loads(ran("datasets", "--format", "json", **variables).stdout)) > 10


@pytest.mark.slow
def test_streams_that_are_closed_or_full(store: Path) -> None:
    closed = shell_line("kvtool store runs $S --format table >&-", store)
    assert (closed.returncode, closed.stderr) == (0, "")
    quiet = shell_line("kvtool store runs $S --format jsonl 2>&-", store)
    assert [json.loads(line)["run"] for line in quiet.stdout.splitlines()] == sorted(NAMES)
    if Path("/dev/full").exists():
        full = shell_line("kvtool store runs $S --format jsonl > /dev/full", store)
        assert (full.returncode, full.stderr) == (1, "kvtool: output: No space left on device\n")


@pytest.mark.slow
def test_colors(store: Path) -> None:
    color = "\x1b[3"
    assert "\x1b" not in on_terminal("store", "runs", store, TERM="dumb")
    assert color not in on_terminal("store", "runs", store, NO_COLOR="1")
    assert "\x1b" not in ran("store", "runs", store, "--format", "table").stdout
    assert "\x1b" in ran("store", "runs", store, "--format", "table", FORCE_COLOR="1").stdout
    assert "\x1b" not in ran("store", "runs", store, "--format", "jsonl", FORCE_COLOR="1").stdout


@pytest.mark.slow
def test_completion() -> None:
    assert complete("kvtool probe x.kv sem") == ["semantic-correspondence", "semantic-segmentation"]
    assert complete("kvtool probe --sel") == ["--select"]
    # The shell is asked which one it is, so it has to be there as a parent.
    script = '"$0" -m kvtool --show-completion bash; true'
    process = subprocess.run(
        ["bash", "-c", script, sys.executable], capture_output=True, text=True, check=True
    )
    assert "_kvtool_completion" in process.stdout


@pytest.mark.slow
def test_no_home(store: Path) -> None:
    variables = {name: value for name, value in environment().items() if name != "HOME"}
    command = [*KVTOOL, "store", "runs", str(store), "--format", "csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    assert len(done.stdout.splitlines()) == 1 + len(NAMES)


@pytest.mark.slow
def test_words_that_are_none(store: Path) -> None:
    unknown = ran("prob")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert (
        unknown.stderr == "kvtool: No such command 'prob'. Did you mean 'probe'?: see kvtool -h\n"
    )
    marked = ran("store", "info", "no[red]such.kv")
    assert marked.returncode == 1
    assert "no[red]such.kv: expected a kvtool store, found nothing" in marked.stderr
    assert json.loads(ran("store", "info", KVTOOL_STORE=str(store)).stdout)["runs"] == len(NAMES)
