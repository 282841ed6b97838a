"""`kvtool probe` over several runs, runs by what they are of, and the rows that are printed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvtool.datasets.images import digest_pictures
from kvtool.datasets.spair71k import SPair71k
from kvtool.store import Store
from tests.support.shell import Shell
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import noise, sample, write_run

RUNS = ("ours", "ours+correct", "theirs")
TASK = "semantic-correspondence"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, and one that an analysis of the first added."""
    root = write_spair(tmp_path_factory.mktemp("spair") / "spair")
    dataset = SPair71k(root, "test")
    refs = dataset.images()
    digests = digest_pictures(refs)
    samples = [
        replace(sample(ref.id, i, WH, GRID), digest=digests[ref.id]) for i, ref in enumerate(refs)
    ]
    path = tmp_path_factory.mktemp("store") / "s.kv"
    for name in RUNS:
        write_run(path, "spair71k", "test", root, samples, planted(dataset.pairs()), name=name)
    return path


def rows(shell: Shell, *words: object) -> list[dict[str, Any]]:
    code, out, err = shell(
        "probe", *words, "--kinds", "value", "--layers", "4", "--format", "jsonl"
    )
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("task", ["all", TASK])
@pytest.mark.slow
def test_all_runs_that_are_no_additions_are_scored(
    store: Path, shell: Shell, task: str, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    printed = rows(shell, store, task, "--run", "all", "--save-predictions", files)
    assert {row["run"] for row in printed} == {"ours", "theirs"}
    assert {row["task"] for row in printed} == {TASK}
    assert sorted(path.name for path in files.iterdir()) == [f"ours-{TASK}", f"theirs-{TASK}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("co-segmentation",), "expected runs that serve co-segmentation, found none"),
        (("nothing",), "unknown name 'nothing'"),
    ],
)
def test_a_task_that_no_run_serves(
    store: Path, shell: Shell, words: Sequence[str], message: str
) -> None:
    code, _, err = shell("probe", store, *words, "--run", "all")
    assert code == 2
    assert message in err[-1]


@pytest.mark.slow
def test_without_a_name_runs_that_serve_the_task_are_meant(
    store: Path, shell: Shell, tmp_path: Path
) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.kv")
    samples = [sample("0", 0, WH, GRID)]
    write_run(copy, "davis2017", "val", tmp_path, samples, noise(0), name="another")
    code, _, err = shell("probe", copy, TASK)
    assert code == 2
    assert err[-1].endswith("found runs that serve it: ours, theirs")
    code, _, err = shell("probe", copy, "nothing")
    assert code == 2
    assert "unknown name 'nothing'" in err[-1]
    Store(copy).remove_run("theirs")
    assert {row["run"] for row in rows(shell, copy, TASK)} == {"ours"}


@pytest.mark.slow
def test_a_description_means_one_run(store: Path, shell: Shell) -> None:
    code, _, err = shell("probe", store, TASK, "--run", "dataset=spair71k")
    assert code == 2
    assert "expected one run with dataset=spair71k, found 2: ours, theirs" in err[-1]
    code, _, err = shell("probe", store, TASK, "--run", "dataset=davis")
    assert code == 2
    assert "no run with dataset=davis; it has: ours" in err[-1]
    for description in ("data=spair71k", "dataset=", "dataset=spair71k,,"):
        code, _, err = shell("probe", store, TASK, "--run", description)
        assert code == 2
        assert "expected a name, or field=text of dataset, model" in err[-1]


@pytest.mark.slow
def test_rows_about_parts_are_printed_on_request(store: Path, shell: Shell) -> None:
    summary = rows(shell, store, TASK, "--run", "ours")
    everything = rows(shell, store, TASK, "--run", "ours", "--rows", "all")
    assert {row["level"] for row in summary} == {"summary"}
    assert [row for row in everything if row["level"] == "summary"] == summary
    assert len({row.get("category") for row in everything}) > 2
    # A CSV file has no column that only the rows left out would fill.
    words = ("probe", store, TASK, "--run", "ours", "--format")
    table = list(csv.DictReader(io.StringIO(shell(*words, "csv")[1])))
    assert {row["level"] for row in table} == {"summary"}
    # JSON is the whole result.
    complete = json.loads(shell(*words, "json", "--kinds", "value", "--layers", "4")[1])
    assert len(complete["rows"]) == len(everything)
    assert "the best block" not in shell(*words, "table")[1]
    assert "the best block" in shell(*words, "table", "--rows", "all")[1]
