"""The demo from nothing to a result, on the shipped model; one analysis of the six, the others are the same steps."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from kvtool import study
from kvtool.probes import TASKS
from kvtool.store.verify import verify


def test_the_demo_runs_and_a_second_time_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "ANALYSES", (study.Analysis("spair71k", "semantic-correspondence"),))
    steps: list[str] = []
    (result,) = study.run_demo(tmp_path, step=steps.append)
    assert len(steps) == 4
    store = kvtool.open(tmp_path / "study.kv")
    assert len(store.runs()) == 2
    assert verify(store) == []
    blocks = {(row["layer"], row["kv_head"]) for row in result.rows if row["kind"] == "value"}
    assert blocks == {(layer, kv_head) for layer in range(8) for kv_head in range(2)}
    assert result.best is not None
    assert {row.get("run") for row in result.baselines} > {None} or len(result.baselines) >= 3
    assert list(study.run_demo(tmp_path)) == [result]


def test_every_task_is_part_of_the_demo() -> None:
    assert {analysis.task for analysis in study.ANALYSES} == set(TASKS.names())
