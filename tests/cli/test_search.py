"""kvtool search as a shell sees it: rows on standard output, which block and which index on
standard error.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from kvtool.store import Run
from tests.support.fields import assert_documented
from tests.support.shell import Outcome, Shell
from tests.support.units import noise, sample, write_run

ROW = ["rank", "image", "x_px", "y_px", "row", "col", "token", "score"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    samples = [sample(f"cat[{i}]", i, (40, 30), (3, 4), newline=True) for i in range(8)]
    return write_run(tmp_path / "s.kv", "folder", "all", tmp_path, samples, noise(1), layers=3)


@pytest.fixture
def search(run: Run, shell: Shell) -> Shell:
    """Run `kvtool search STORE ...`, as shell."""

    def call(*arguments: object, flags: tuple[str, ...] = ()) -> Outcome:
        return shell(*flags, "search", run.store, *arguments)

    return call


@pytest.mark.slow
def test_rows_and_notes(search: Shell, run: Run) -> None:
    code, out, err = search("--image", "cat[2]", "--at", "15,25", "-k", 5)
    rows = list(map(json.loads, out.splitlines()))
    assert code == 0
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0] == {
        "run": run.name,
        "rank": 1,
        "image": "cat[2]",
        "x_px": 15.0,
        "y_px": 25.0,
        "row": 2,
        "col": 1,
        "token": 11,
        "score": pytest.approx(1, abs=1e-6),
    }
    assert err == [
        "value, layer 1, head 0: no kept probe says which is best: middle layer, head 0 unless "
        "given",
        "index: built, flat, 96 patches, recall_at_10 1.000 over 96 queries",
    ]
    code, again, err = search(
        "--image", "cat[2]", "--at", "15,25", "-k", 5, "--layer", 1, "--kv-head", 0
    )
    assert (code, again) == (0, out)
    assert err == [
        "value, layer 1, head 0: as asked",
        "index: kept, flat, 96 patches, recall_at_10 1.000 over 96 queries",
    ]
    assert search("--image", "cat[2]", "--at", "15,25", flags=("-q",))[2] == []


@pytest.mark.slow
def test_formats(search: Shell) -> None:
    command = ("--image", "cat[2]", "--at", "15,25", "-k", 3, "--metric", "l2", "--exclude-self")
    _, out, _ = search(*command, "--format", "csv")
    read = list(csv.DictReader(io.StringIO(out)))
    assert list(read[0]) == ["run", *ROW]
    assert all(row["image"] != "cat[2]" and float(row["score"]) < 0 for row in read)
    _, out, _ = search(*command, "--format", "json")
    result = json.loads(out)
    assert_documented(result)
    assert (result["schema"], result["command"], result["n"]) == ("kvtool.result/1", "search", 96)
    assert [list(row) for row in result["rows"]] == [ROW] * 3
    assert result["config"]["index"]["recall_at_10"] == 1
    _, out, _ = search(*command, "--format", "table")
    assert "cat[" in out
    assert "score" in out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["--image", "cat[9]"], 2, "no image 'cat[9]' among the 8 of run"),
        (["--image", "cat[9]"], 2, "nearest: 'cat["),
        (["--at", "40,3"], 2, "outside image cat[2] (40 x 30 px): expected x from 0 to below 40"),
        (["--at", "-1,3"], 2, "--at -1,3 is outside"),
        (["--at", "5"], 2, "expected X,Y in pixels"),
        (["--at", "nan,3"], 2, "expected X,Y in pixels"),
        (["--at", "a,b"], 2, "expected X,Y in pixels"),
        (["-k", "0"], 2, "greater than or equal to 1"),
        (["--kind", "key"], 2, "has no key, only value, projected, vision"),
        (["--layer", "7"], 2, "no layer 7 of value, only 0, 1, 2"),
        (["--kv-head", "2"], 2, "no kv_head 2"),
        (["--run", "nope"], 2, "no run 'nope'"),
        (["--device", "cuda:9"], 2, "cuda:9"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_one_line(
    search: Shell, run: Run, arguments: list[str], code: int, expected: str
) -> None:
    fine = {"--image": "cat[2]", "--at": "15,25"} | dict(
        zip(arguments[::2], arguments[1::2], strict=True)
    )
    status, out, err = search(*(word for pair in fine.items() for word in pair))
    assert (status, out) == (code, "")
    assert len(err) == 1
    assert expected in err[0]
    assert not (run.folder / "indexes").exists()


def test_a_damaged_part_is_named(search: Shell, run: Run) -> None:
    shard = next(run.folder.glob("parts/0000005-*/value/c.1.*"))
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    code, out, err = search("--image", "cat[2]", "--at", "15,25")
    assert (code, out, len(err)) == (1, "", 1)
    assert "part 0000005-0000008, array value" in err[0]
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]
