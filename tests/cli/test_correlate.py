"""kvtool correlate as a shell sees it: the rows, what is said, exit codes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kvtool.datasets.cvbench import CvBench
from tests.support.correlations import answered, right_for, segmented, write_cvbench
from tests.support.shell import Shell
from tests.support.tasks.language import imagenet

NARROW = ("--tasks", "semantic-segmentation", "--benchmarks", "cvbench")


@pytest.fixture
def correlate(shell: Shell) -> Shell:
    """Run `kvtool correlate ...`, as shell."""
    return partial(shell, "correlate")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    imagenet(root / "imagenet-s")
    write_cvbench(root / "cvbench")
    return root


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[Path]:
    """A store a model."""
    paths = [tmp_path_factory.mktemp("stores") / f"{number}.kv" for number in range(4)]
    for number, path in enumerate(paths):
        segmented(path, data, f"model-{number}", number)
        answered(
            path, CvBench(data / "cvbench"), f"model-{number}", right_for((20, 12, 16, 8)[number])
        )
    return paths


def rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.slow
def test_four_models_in_four_stores(correlate: Shell, stores: list[Path]) -> None:
    code, out, err = correlate(*stores, *NARROW)
    assert (code, err) == (0, [])
    records = rows(out)
    assert [row["model"] for row in records[:4]] == [f"model-{number}" for number in range(4)]
    assert [(row["coefficient"], row["n"]) for row in records[4:]] == [
        ("pearson", 4),
        ("spearman", 4),
    ]
    # Ranks 4 3 2 1 and 4 2 3 1: rho = 1 - 6 * 2 / (4 * 15).
    assert records[5]["value"] == pytest.approx(0.8)
    code, out, _ = correlate(
        *stores, *NARROW, "--format", "json", "--models", "model-0,model-1,model-3"
    )
    assert code == 0
    assert json.loads(out)["n"] == 3


@pytest.mark.slow
def test_the_store_of_the_environment(
    correlate: Shell, stores: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model: its row, no coefficient, and why; done in part."""
    monkeypatch.setenv("KVTOOL_STORE", str(stores[0]))
    code, out, err = correlate(*NARROW)
    assert (code, [row["model"] for row in rows(out)]) == (4, ["model-0"])
    assert err == [
        "correlate: no coefficient: expected 3 models or more, found 1; extract more of them",
        "kvtool: correlate: 0 models were left out, 1 compared, which is too few for a coefficient",
    ]


@pytest.mark.slow
def test_a_model_that_lacks_a_run_is_exit_4(
    correlate: Shell, stores: list[Path], data: Path, tmp_path: Path
) -> None:
    segmented(tmp_path / "s.kv", data, "other", 1)
    code, out, err = correlate(*stores, tmp_path / "s.kv", *NARROW)
    assert (code, len(rows(out))) == (4, 6)
    assert err == [
        "left out: model other: cvbench: no run over it: extract it with --kinds key,value",
        "kvtool: correlate: 1 models were left out, 4 compared",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "cvbench"], 2, "--data: expected NAME=FOLDER, found 'cvbench'"),
        (["--model", "=here"], 2, "--model: expected NAME=FOLDER, found '=here'"),
        (["--models", "nobody"], 2, "correlate: no model nobody with a run of this"),
        (["--data", "cvbench=nowhere"], 1, "nowhere: expected a folder, found nothing there"),
        (["--episodes", "9"], 2, "correlate: none of semantic-segmentation takes episodes"),
    ],
)
@pytest.mark.slow
def test_bad_requests_are_one_line(
    correlate: Shell, stores: list[Path], arguments: list[str], code: int, message: str
) -> None:
    status, out, err = correlate(*stores, *NARROW, *arguments)
    assert (status, out) == (code, "")
    assert message in err[-1]


@pytest.mark.slow
def test_parquet_without_its_columns(
    correlate: Shell, stores: list[Path], data: Path, tmp_path: Path
) -> None:
    for path in (data / "cvbench").glob("*.parquet"):
        pq.write_table(
            pq.read_table(path).drop_columns(["choices", "source"]), tmp_path / path.name
        )
    code, out, err = correlate(*stores, *NARROW, "--data", f"cvbench={tmp_path}")
    assert (code, out) == (1, "")
    assert "test_2d.parquet: expected columns choices, source, found idx, type, task" in err[-1]
