"""Averages over tasks: means and intervals by hand, missing tasks, several models, the command
line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.average.means import TaskScores
from kvtool.experiments.average.run import chance_row
from kvtool.reporting.emit import emit
from kvtool.reporting.sentences import sentences_of
from kvtool.result import Result, Row, is_summary
from kvtool.store import Run
from tests.support.comparisons import pair_run
from tests.support.fields import assert_documented
from tests.support.shell import Shell, in_this_process
from tests.support.tasks.runs import RUNS
from tests.support.tasks.semantic_correspondence import write_spair
from tests.support.units import PLANTED, noise

pytestmark = pytest.mark.slow

TASKS = ("co-segmentation", "referring-expression", "semantic-correspondence")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Run]:
    """A run of one model for each task, in a store each."""
    root = tmp_path_factory.mktemp("runs")
    task_runs = {}
    for task in TASKS:
        (root / task).mkdir()
        task_runs[task] = RUNS[task](root / task)
    return task_runs


@pytest.fixture(scope="module")
def stores(runs: Mapping[str, Run]) -> list[Path]:
    return [run.store for run in runs.values()]


@pytest.fixture(scope="module")
def result(stores: list[Path]) -> Result:
    return kvtool.average(stores, restarts=1)


@pytest.fixture(scope="module")
def probes(runs: Mapping[str, Run]) -> dict[str, Result]:
    options: dict[str, dict[str, Any]] = {"co-segmentation": {"restarts": 1}}
    return {task: kvtool.probe(run, task, **options.get(task, {})) for task, run in runs.items()}


def block_row(rows: list[Row], layer: int, head: int, **labels: str) -> Row:
    (row,) = [
        row
        for row in rows
        if (row["kind"], row["layer"], row["kv_head"]) == ("value", layer, head)
        and (is_summary(row) if not labels else labels.items() <= row.items())
    ]
    return row


@pytest.mark.parametrize("layer", [0, PLANTED[0]])
@pytest.mark.parametrize(
    ("subset", "tasks"),
    [("segmentation", TASKS[:2]), ("correspondence", TASKS[2:]), ("all", TASKS)],
)
@pytest.mark.slow
def test_means_and_intervals_by_hand(
    result: Result, probes: dict[str, Result], layer: int, subset: str, tasks: tuple[str, ...]
) -> None:
    row = block_row(result.rows, layer, 1, subset=subset)
    scores = [block_row(probes[task].rows, layer, 1) for task in tasks]
    values = [score[probes[task].metric] for task, score in zip(tasks, scores, strict=True)]
    lows = [score[f"{probes[task].metric}_low"] for task, score in zip(tasks, scores, strict=True)]
    mean = sum(values) / len(values)
    away = sum((value - low) ** 2 for value, low in zip(values, lows, strict=True)) ** 0.5
    assert row["score"] == pytest.approx(mean)
    assert row["score_low"] == pytest.approx(mean - away / len(values))
    assert (row["n_tasks"], row["n"]) == (len(tasks), sum(score["n"] for score in scores))
    chances = [np.nan if (level := score.get("chance")) is None else level for score in scores]
    mean_chance = float(np.mean(chances))
    assert row["chance"] == (None if np.isnan(mean_chance) else pytest.approx(mean_chance))


@pytest.mark.slow
def test_only_blocks_that_all_tasks_score_are_averaged(result: Result) -> None:
    layers = {
        subset: {row["layer"] for row in result.rows if row["subset"] == subset}
        for subset in ("semantic-correspondence", "segmentation", "all")
    }
    assert layers["semantic-correspondence"] == set(range(8))
    assert layers["all"] == layers["segmentation"] == set(range(6))


@pytest.mark.slow
def test_each_layer_has_its_best_head(result: Result) -> None:
    rows = [row for row in result.rows if (row["subset"], row["kind"]) == ("all", "value")]
    bests = [row for row in result.per_layer if (row["subset"], row["kind"]) == ("all", "value")]
    assert [row["layer"] for row in bests] == list(range(6))
    for best in bests:
        assert best["score"] == max(r["score"] for r in rows if r["layer"] == best["layer"])
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert result.best["subset"] == "all"


@pytest.mark.slow
def test_bests_of_each_task_and_their_means(result: Result, probes: dict[str, Result]) -> None:
    items = {row["subset"]: row for row in result.items}
    for task, probe in probes.items():
        assert probe.best is not None
        assert items[task]["score"] == probe.best[probe.metric]
        assert items[task]["layer"] == probe.best["layer"]
        assert items[task]["run"] == probe.config["run"]
    expected = sum(items[task]["score"] for task in TASKS[:2]) / 2
    assert items["segmentation"]["score"] == pytest.approx(expected)
    assert [*items] == [*TASKS, "segmentation", "correspondence", "all"]


def test_baselines_are_over_the_tasks_that_have_them(
    result: Result, probes: dict[str, Result]
) -> None:
    rows = [
        row for row in result.baselines if row["subset"] == "all" and row["kind"] == "projected"
    ]
    (row,) = rows
    having = [
        (probe.metric, baseline)
        for probe in probes.values()
        for baseline in probe.baselines
        if baseline["kind"] == "projected"
    ]
    assert row["n_tasks"] == len(having)
    scores = [baseline[metric] for metric, baseline in having]
    assert row["score"] == pytest.approx(sum(scores) / len(scores))


def test_missing_tasks_are_named_and_counted(stores: list[Path]) -> None:
    result = kvtool.average(stores, restarts=1)
    assert result.n_skipped == 3
    assert result.skipped[0] == (
        "model planted: foreground-segmentation is no part of its average: no run over pascal5i "
        "or own: extract it"
    )
    single = kvtool.average(stores[2:])
    assert {row["subset"] for row in single.rows} == {TASKS[2], "correspondence", "all"}
    assert single.n_skipped == 5
    assert "Over 1 task (correspondence)" in sentences_of(single)[0]


@pytest.mark.parametrize(("unit", "scale"), [("fraction", 1.0), ("percent", 100.0)])
def test_the_spread_of_guesses_is_that_of_fractions(
    runs: Mapping[str, Run], unit: str, scale: float
) -> None:
    names = ("j", "chance", "chance_difference")
    row: Row = {name + end: 0.2 * scale for name in names for end in ("", "_low", "_high")}
    row |= {"kind": "value", "layer": 0, "kv_head": 0, "n": 12, "chance_kind": "random map"}
    guess = {"kind": "value", "predictor": "random map", "draws_sd": 0.03 * scale, "draws": 8}
    result = Result("probe", TASKS[0], "j", 12, [row], unit=unit, chance=[guess])
    (run, *_) = runs.values()
    level = chance_row("planted", [TaskScores(TASKS[0], run, result)])
    assert (level["score"], level["draws_sd"]) == pytest.approx((0.2, 0.03))


@pytest.mark.slow
def test_several_models_on_the_same_images(tmp_path: Path) -> None:
    root, store = write_spair(tmp_path / "spair"), tmp_path / "s.kv"
    pair_run(store, root, "one", noise(1), layers=3)
    pair_run(store, root, "two", noise(2), n=8, layers=2)
    result = kvtool.average(store)
    names = [entry["name"] for entry in result.config["models"]]
    assert names == ["model of one", "model of two"]
    assert any("4 images that some models lack" in note for note in result.config["notes"])
    counts = {row["model"]: row["n"] for row in result.items if row["subset"] == "all"}
    assert len(set(counts.values())) == 1
    layers = {name: {r["layer"] for r in result.rows if r["model"] == name and r["kind"] == "value"}
              for name in names}  # fmt: skip
    assert layers == {names[0]: {0, 1, 2}, names[1]: {0, 1}}
    single = kvtool.average(store, models=["model of two"])
    assert {row["model"] for row in single.rows} == {"model of two"}
    owners = {row["model"] for row in single.baselines}
    assert owners == {"model of one", "model of two"} or owners == {"model of two"}
    with pytest.raises(UsageError, match="average: no model nobody with a run of this"):
        kvtool.average(store, models=["nobody"])
    with pytest.raises(UsageError, match="average: no run nothing in the stores"):
        kvtool.average(store, runs=["nothing"])
    with pytest.raises(KvtoolError, match="expected runs of a language model"):
        kvtool.average(store, tasks=["co-segmentation"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": []}, "expected tasks, each once; found none"),
        ({"tasks": ["co-segmentation"] * 2}, "each once"),
        ({"tasks": ["segmentation"]}, "unknown name 'segmentation'"),
        ({"select": "best"}, "select: expected max or split"),
        ({"tasks": ["referring-expression"], "restarts": 1}, "none of referring-expression takes"),
    ],
)
def test_bad_requests_are_one_line(
    stores: list[Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        kvtool.average(stores, **options)
    assert "\n" not in str(caught.value)


def test_kept_probes_are_used_and_all_is_documented(
    stores: list[Path], result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kvtool.tasks import scoring

    assert_documented(result.to_json())
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "score_blocks", lambda *_: pytest.fail("scored again"))
        assert kvtool.average(stores, restarts=1).to_json() == result.to_json()


@pytest.mark.parametrize("format", ["table", "csv", "jsonl"])
def test_formats(result: Result, format: str) -> None:
    out = io.StringIO()
    emit(result, format, out)
    assert "segmentation" in out.getvalue()


@pytest.fixture
def average(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return partial(in_this_process(monkeypatch, capsys), "average")


@pytest.mark.slow
def test_the_command_line(
    average: Shell, stores: list[Path], result: Result, tmp_path: Path
) -> None:
    png, page = tmp_path / "a.png", tmp_path / "page.html"
    words = ("--restarts", 1, "--rows", "all", "--format", "jsonl", "--plot", png)
    code, out, err = average(*stores, *words)
    assert code == 0
    expected = [json.loads(json.dumps(row)) for row in result.flat_rows()]
    assert [json.loads(line) for line in out.splitlines()] == expected
    assert any("foreground-segmentation is no part of its average" in line for line in err)
    assert png.read_bytes()[:4] == b"\x89PNG"
    code, _, err = average(*stores, "--tasks", f"{TASKS[1]},temporal-correspondence")
    assert code == 4
    assert "1 of the tasks are missing or cannot be scored" in err[-1]
    kvtool.report(stores[0], page)
    assert "Averages over tasks" in page.read_text()
