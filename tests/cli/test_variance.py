"""kvtool variance as a shell sees it: rows a knockout reads, the plain statement, one line for each
bad input.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvtool.asking.heads import head_set, read_rows
from kvtool.store import Run
from tests.support.keys import planted
from tests.support.shell import LineShell, Shell, in_lines

CONSTANT = [(0, 0), (0, 1), (1, 0), (7, 1)]


@pytest.fixture
def variance(shell: Shell) -> LineShell:
    """Run `kvtool variance ...`: (exit code, lines of standard output, lines of standard error)."""
    return in_lines(shell, "variance")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return planted(tmp_path / "s.kv", constant=CONSTANT, layers=8, heads=2)


@pytest.fixture
def plain(tmp_path: Path) -> Run:
    """No key is planted."""
    return planted(tmp_path / "plain.kv", layers=8, heads=2)


@pytest.mark.slow
def test_rows_are_what_a_knockout_reads(variance: LineShell, run: Run, tmp_path: Path) -> None:
    code, out, err = variance(run.store)
    assert (code, err) == (0, [])
    rows = [json.loads(line) for line in out]
    assert len(rows) == 16
    assert {(row["layer"], row["kv_head"]) for row in rows if row["input_agnostic"]} == set(
        CONSTANT
    )
    assert {row["group"] for row in rows} == {"early", "middle", "late"}
    (tmp_path / "rows").write_text("\n".join(out))
    heads = head_set(read_rows(str(tmp_path / "rows")), run.config.model.geometry, "rows")
    assert heads.selected == set(CONSTANT)
    assert len(heads.dependent) == 12


@pytest.mark.slow
def test_the_whole_result(variance: LineShell, run: Run) -> None:
    code, out, _ = variance(run.store, "--format", "json")
    assert code == 0
    result = json.loads("\n".join(out))
    distribution = result["config"]["distribution"]
    assert distribution["bimodal"]
    assert len(distribution["modes"]) == 2
    assert distribution["modes"][0] < result["config"]["threshold"] < distribution["modes"][1]
    assert [group["n_input_agnostic"] for group in result["config"]["groups"]] == [3, 0, 1]


@pytest.mark.slow
def test_a_table(variance: LineShell, run: Run) -> None:
    code, out, _ = variance(run.store, "--format", "table")
    assert code == 0
    text = "\n".join(out)
    assert max(map(len, out)) <= 80
    assert text.count("[0]") == 4
    assert "cut " in text
    assert any(line.split() == ["early", "0-1", "4", "3"] for line in out)


@pytest.mark.slow
def test_one_mode_is_said_on_standard_error(variance: LineShell, plain: Run) -> None:
    code, out, err = variance(plain.store)
    assert code == 0
    assert {json.loads(line)["input_agnostic"] for line in out} == {None}
    assert len(err) == 1
    assert err[0].startswith("not bimodal (")
    assert "--threshold" in err[0]
    code, out, err = variance(plain.store, "--threshold", "1e9")
    assert (code, err) == (0, [])
    assert {json.loads(line)["input_agnostic"] for line in out} == {True}
    assert "not bimodal" in "\n".join(variance(plain.store, "--format", "table")[1])


@pytest.mark.slow
def test_pictures(variance: LineShell, run: Run, tmp_path: Path) -> None:
    ids = f"{run.ids[1]}, {run.ids[3]}"
    code, out, err = variance(run.store, "--pca", ids, "-o", tmp_path / "p")
    assert (code, len(out)) == (0, 16)
    assert err == [f"2 pictures in {tmp_path / 'p'}"]
    assert len(list((tmp_path / "p").glob("*.png"))) == 2


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "-3"], "found -3"),
        (["--threshold", "low"], "expected auto or a number, found 'low'"),
        (["--threshold", "inf"], "found 'inf'"),
        (["--kind", "value"], "has no value, only key"),
        (["--pca", "nobody", "-o", "x"], "no image 'nobody' among the 12"),
        (["--pca", "nobody"], "-o DIR"),
        (["--run", "other"], "no run 'other'"),
    ],
)
def test_bad_input_is_one_line(
    variance: LineShell, run: Run, arguments: list[str], message: str
) -> None:
    code, out, err = variance(run.store, *arguments)
    assert (code, out, len(err)) == (2, [], 1)
    assert err[0].startswith("kvtool: ")
    assert message in err[0]


def test_one_image_is_one_line(variance: LineShell, tmp_path: Path) -> None:
    code, out, err = variance(planted(tmp_path / "one.kv", 1, layers=2, heads=1).store)
    assert (code, out, len(err)) == (2, [], 1)
    assert "expected 2 images or more, found 1" in err[0]
