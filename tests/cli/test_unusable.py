"""How probe and paired end where something was left out: with 4 where an annotation cannot be used,
with 0 where the run only does not hold it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kvtool
from kvtool.store import Run
from tests.support import breaking
from tests.support.scenes import World
from tests.support.shell import Shell
from tests.support.tasks.runs import RUNS
from tests.support.units import noise, write_run

TASK = "semantic-correspondence"
BLOCK = ("--kinds", "value", "--layers", "0", "--format", "json")


def pair_files(run: Run) -> list[Path]:
    return sorted(Path(str(run.config.dataset_path)).glob("PairAnnotation/test/*.json"))


def counts_of(out: str) -> tuple[int, int, int]:
    result = json.loads(out)
    return result["n"], result["n_skipped"], result["n_unusable"]


@pytest.mark.slow
def test_probe_ends_with_4_where_an_annotation_cannot_be_used(shell: Shell, tmp_path: Path) -> None:
    run = RUNS[TASK](tmp_path)
    code, out, _ = shell("probe", run.store, TASK, *BLOCK)
    n_pairs = counts_of(out)[0]
    assert (code, counts_of(out)) == (0, (n_pairs, 0, 0))
    breaking.truncated(pair_files(run)[0])
    for task in (TASK, "all"):
        code, out, err = shell("probe", run.store, task, *BLOCK)
        assert (code, counts_of(out)) == (4, (n_pairs - 1, 1, 1))
        assert str(pair_files(run)[0]) in err[0]
        assert err[-1] == (
            "kvtool: probe: annotations or pictures cannot be used and were left out: 1 of " + TASK
        )
    # What was kept says so again.
    assert shell("probe", run.store, TASK, *BLOCK)[0] == 4


@pytest.mark.slow
def test_probe_of_a_run_over_some_images_ends_with_0(shell: Shell, tmp_path: Path) -> None:
    run = RUNS[TASK](tmp_path)
    pair = json.loads(pair_files(run)[0].read_text())
    images = {pair["src_imname"], pair["trg_imname"]}
    samples = [image for image in run.samples if f"{image.id.split('/')[-1]}.jpg" in images]
    data = Path(str(run.config.dataset_path))
    part = write_run(tmp_path / "part", "spair71k", "test", data, samples, noise(0))
    code, out, err = shell("probe", part.store, TASK, *BLOCK)
    n, n_skipped, n_unusable = counts_of(out)
    assert (code, n_unusable) == (0, 0)
    assert n > 0
    assert n_skipped > 0
    assert "pairs need images that the run does not hold" in err[0]


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink") / "blink" / "Art_Style"


def paired_counts(
    shell: Shell, folder: Path, model: Path, data: Path, **options: Any
) -> tuple[int, tuple[int, int, int], list[str]]:
    """Extract and compare: the exit code, the counts, and what was said on standard error."""
    kvtool.extract(folder / "s.kv", model=str(model), dataset=f"blink:{data}@val", **options)
    arguments = (folder / "s.kv", "art-style", "--max-new-tokens", 2, "--format", "json")
    code, out, err = shell("paired", *arguments)
    return code, counts_of(out), err


@pytest.mark.slow
def test_paired_over_some_images_ends_with_0(
    shell: Shell, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    code, counts, err = paired_counts(shell, tmp_path, tiny_model, scenes, limit=9)
    assert (code, counts) == (0, (3, 9, 0))
    assert "the run does not hold" in err[0]


@pytest.mark.slow
def test_paired_ends_with_4_where_a_question_cannot_be_used(
    shell: Shell, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    data = shutil.copytree(scenes, tmp_path / "data" / scenes.name)
    (path,) = data.glob("val*.parquet")
    table = pq.read_table(path)
    answers = table.column("answer").to_pylist()
    answers[1] = "(Q)"
    column = table.column_names.index("answer")
    pq.write_table(table.set_column(column, "answer", pa.array(answers)), path)
    code, counts, err = paired_counts(shell, tmp_path, tiny_model, data)
    assert (code, counts) == (4, (11, 1, 1))
    assert "expected an answer of (A), (B), found '(Q)'" in err[0]
    assert err[-1] == (
        "kvtool: paired art-style: 1 questions cannot be used and were left out, 11 compared"
    )
