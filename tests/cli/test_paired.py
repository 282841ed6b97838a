"""kvtool paired as a shell sees it, on the embedded world with a tiny random model: its answers
mean nothing.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kvtool
from tests.support.scenes import World
from tests.support.shell import Shell


@pytest.fixture
def paired(shell: Shell) -> Shell:
    """Run `kvtool paired ...`, as shell."""
    return partial(shell, "paired")


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink") / "blink"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    kvtool.extract(path, model=str(tiny_model), dataset=f"blink:{scenes}/Art_Style@val")
    return path


def rows_of(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


COMMAND = ("art-style", "--max-new-tokens", 2)
FIELDS = {
    "value",
    "model",
    "union",
    "n_both",
    "mcnemar_p",
    "mcnemar_mid_p",
    "chance",
    "n",
    "both_low",
}


@pytest.mark.slow
def test_rows_tables_and_cells(paired: Shell, store: Path, tmp_path: Path) -> None:
    code, out, err = paired(store, *COMMAND, "--answers", tmp_path / "answers.jsonl")
    rows = rows_of(out)
    assert (code, err) == (0, [])
    assert [(row["kind"], row["layer"], row["kv_head"]) for row in rows] == [
        *(("value", layer, head) for layer in range(3) for head in range(2)),
        ("projected", 0, 0), ("vision", 2, 0),
    ]  # fmt: skip
    assert rows[0].keys() >= FIELDS
    answers = rows_of((tmp_path / "answers.jsonl").read_text())
    assert len(answers) == 12
    cells = {}
    for cell in ("both", "value-only", "model-only", "neither"):
        code, out, _ = paired(store, *COMMAND, "--show", cell)
        cells[cell] = rows_of(out)
        assert [row["id"] for row in cells[cell]] == [
            line["id"] for line in answers if line["cell"] == cell.replace("-", "_")
        ]
    assert sum(map(len, cells.values())) == 12
    first = next(row for rows in cells.values() for row in rows)
    assert list(first) == ["id", "label", "answer", "said", "value", "images"]
    code, out, _ = paired(store, *COMMAND, "--format", "table")
    assert "blink@val · Art_Style · chance 50.0 %" in out
    options = ("--layers", "1", "--kinds", "key,value", "--select", "split")
    code, out, _ = paired(store, *COMMAND, "--format", "json", *options)
    document = json.loads(out)
    assert document["best"]["select"] == "split"
    assert {(row["kind"], row["layer"]) for row in document["rows"]} == {("key", 1), ("value", 1)}


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["nothing"], 2, "unknown task 'nothing'; known: semantic-correspondence, art-style"),
        (["semantic-correspondence"], 2, "--dataset spair71k:PATH"),
        (["art-style", "--folds", "3"], 2, "no option folds here"),
        (["art-style", "--layers", "7"], 2, "value has no layer 7"),
        (["art-style", "--data", "nowhere"], 1, "nowhere"),
        (["art-style", "--max-new-tokens", "1", "--model", "nowhere"], 1, "nowhere"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_one_line(
    paired: Shell, store: Path, arguments: list[str], code: int, expected: str
) -> None:
    status, out, err = paired(store, *arguments)
    assert (status, out, len(err)) == (code, "", 1)
    assert err[0].startswith("kvtool: ")
    assert expected in err[0]


@pytest.mark.slow
def test_hidden_answers_are_refused(
    paired: Shell, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=f"blink:{scenes}/Art_Style@test"
    )
    code, out, err = paired(tmp_path / "s.kv", "art-style")
    assert (code, out) == (2, "")
    assert "answers hidden: use @val" in err[-1]


@pytest.mark.slow
def test_missing_columns_are_named(
    paired: Shell, store: Path, scenes: Path, tmp_path: Path
) -> None:
    shutil.copytree(scenes / "Art_Style", tmp_path / "Art_Style")
    (file,) = (tmp_path / "Art_Style").glob("val-*")
    pq.write_table(pq.read_table(file).drop_columns(["prompt", "choices"]), file)
    code, out, err = paired(store, "art-style", "--data", tmp_path / "Art_Style")
    assert (code, out) == (1, "")
    assert "expected columns prompt, choices, found idx, question" in err[-1]
