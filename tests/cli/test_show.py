"""kvtool show as a shell sees it: a row for the file, notes on standard error, one line for each
bad request.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from kvtool.errors import UsageError
from kvtool.experiments.show.command import parse_block
from kvtool.store import Run
from kvtool.types import Block
from tests.support.shell import LineShell, Shell, in_lines
from tests.support.tasks.runs import RUNS


@pytest.fixture
def show(shell: Shell) -> LineShell:
    """Run `kvtool show ...`: (exit code, lines of standard output, lines of standard error)."""
    return in_lines(shell, "show")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RUNS["referring-expression"](tmp_path)


@pytest.mark.slow
def test_maps(show: LineShell, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    images = ("--image", run.ids[0], "--image", run.ids[2])
    code, rows, err = show(run.store, *images, "--layers", "0-2", "--heads", "1", "-o", out)
    assert (code, err) == (0, [])
    (row,) = map(json.loads, rows)
    assert row["images"] == [run.ids[0], run.ids[2]]
    assert (row["path"], row["what"], row["run"], row["kind"]) == (
        str(out),
        "pca",
        run.name,
        "value",
    )
    assert out.read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(tmp_path / "data")
    code, _, err = show(run.store, *images, "-o", out)
    assert (code, len(err)) == (0, 1)
    assert "without the original pictures" in err[0]


@pytest.mark.slow
def test_predictions_of_a_block_and_of_the_best(show: LineShell, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "masks.png"
    task = ("--image", run.ids[0], "--task", "referring-expression", "-o", out)
    code, rows, err = show(
        run.store, *task, "--block", "value:3:1", "--limit", 1, "--format", "csv"
    )
    assert (code, err) == (0, ["1 of 2 drawn: --limit sets how many"])
    (row,) = csv.DictReader(rows)
    assert (row["kind"], row["layer"], row["kv_head"]) == ("value", "3", "1")
    code, rows, err = show(run.store, *task)
    best = json.loads(rows[0])
    assert code == 0
    assert (
        err[-1]
        == f"the best block of referring-expression: value:{best['layer']}:{best['kv_head']}"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "COCO_train2014_9"], "nearest: 'COCO_train2014_00000000000"),
        (["--block", "value:3:1"], "--block is of a task"),
        (["--block", "value:3"], "expected KIND:LAYER:HEAD such as value:14:2, found 'value:3'"),
        (["--task", "referring-expression", "--layers", "1"], "give --block instead"),
        (["--task", "referring-expression", "--block", "value:60:1"], "no value:60:1"),
        (["--task", "co-segmentation"], "cannot serve co-segmentation"),
        (["--kind", "vision", "--layers", "9"], "no layer 9"),
        (["-o", "a.jpg"], "ends in .png"),
    ],
)
def test_bad_requests_are_one_line(
    show: LineShell, run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, out, err = show(run.store, "--image", run.ids[0], "-o", tmp_path / "x.png", *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("kvtool: ")
    assert message in err[0]


def test_blocks() -> None:
    assert parse_block("value:14:2") == Block("value", 14, 2)
    assert parse_block(None) is None
    for text in ("", "value", "values:1:2", "value:-1:2", "value:1:2:3", "value:a:2"):
        with pytest.raises(UsageError, match="expected KIND:LAYER:HEAD"):
            parse_block(text)
