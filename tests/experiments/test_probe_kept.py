"""Kept results belong to what they were made of: pictures, truth, options, algorithm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvtool.datasets import open_dataset
from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import DatasetError
from kvtool.experiments.probe.run import probe
from kvtool.result import Result
from kvtool.store import Run, open_store, provenance
from kvtool.types import Sample
from tests.support.damage import assert_computed_again
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import noise, sample, write_run

TASK = "semantic-correspondence"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_spair(tmp_path / "spair")


def samples_of(root: Path) -> list[Sample]:
    """Samples of the data set's pictures, with what these are."""
    from kvtool.datasets.images import digest_pictures

    refs = SPair71k(root, "test").images()
    digests = digest_pictures(refs)
    return [
        replace(sample(ref.id, i, WH, GRID), digest=digests[ref.id]) for i, ref in enumerate(refs)
    ]


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Run:
    pairs = SPair71k(root, "test").pairs()
    return write_run(
        tmp_path / "s.kv", "spair71k", "test", root, samples_of(root), planted(pairs), name="ours"
    )


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The runs whose blocks were scored since it was last asked."""
    from kvtool.tasks import scoring, walk

    names: list[str] = []
    before = walk.score_blocks

    def listening(task: Any, plan: Any, *arguments: Any) -> Any:
        names.append(plan.run.name)
        return before(task, plan, *arguments)

    def since() -> list[str]:
        told = list(names)
        names.clear()
        return told

    monkeypatch.setattr(scoring, "score_blocks", listening)
    return since


def best(result: Result) -> float:
    assert result.best is not None
    return float(result.best["pck_image"])


def move_keypoints(root: Path, by_px: float) -> None:
    for path in (root / "PairAnnotation" / "test").glob("*.json"):
        record = json.loads(path.read_text())
        record["trg_kps"] = [[x + by_px, y] for x, y in record["trg_kps"]]
        path.write_text(json.dumps(record))


@pytest.mark.slow
def test_truth_that_changed_is_scored_anew_and_the_first_is_not_touched(
    tmp_path: Path, root: Path, run: Run, scored: Callable[[], list[str]]
) -> None:
    first = best(probe(run, TASK))
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    move_keypoints(copy, -20.0)
    assert scored() == ["ours"]
    moved = best(probe(run, TASK, data=copy))
    assert moved < first
    assert best(probe(run, TASK, data=copy, fresh=True)) == moved
    assert scored() == ["ours", "ours"]
    assert best(probe(run, TASK)) == first
    assert best(probe(run, TASK, data=copy)) == moved
    assert not scored()
    move_keypoints(root, -20.0)
    assert best(probe(run, TASK)) == moved


@pytest.mark.slow
def test_data_is_opened_even_where_a_result_is_kept(tmp_path: Path, run: Run) -> None:
    probe(run, TASK)
    with pytest.raises(DatasetError, match="expected a folder, found nothing there"):
        probe(run, TASK, data=tmp_path / "nowhere")


@pytest.mark.slow
def test_pictures_of_another_data_set_are_refused(tmp_path: Path, root: Path, run: Run) -> None:
    from tests.support.tiny import noise as picture

    probe(run, TASK)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    ref = open_dataset(f"spair71k:{copy}").images()[3]
    assert ref.path is not None
    picture(*WH, 99).save(ref.path)
    with pytest.raises(DatasetError, match=f"other ones: 1 picture changed \\({ref.id}\\)"):
        probe(run, TASK, data=copy)


@pytest.mark.slow
def test_a_colleagues_run_costs_only_its_own_baselines(
    tmp_path: Path, root: Path, run: Run, scored: Callable[[], list[str]]
) -> None:
    first = probe(run, TASK)
    samples = samples_of(root)
    write_run(
        tmp_path / "s.kv", "spair71k", "test", root, samples, noise(3), name="theirs", model="other"
    )
    write_run(
        tmp_path / "s.kv",
        "spair71k",
        "test",
        root,
        samples[:3],
        noise(4),
        name="part",
        model="third",
    )
    scored()
    second = probe(run, TASK)
    assert scored() == ["theirs"]
    assert second.rows == first.rows
    assert {row["run"] for row in second.baselines} == {"ours", "theirs"}
    assert second.skipped == [f"run part is no baseline: it lacks {len(samples) - 3} of the images"]
    assert probe(run, TASK).to_json() == second.to_json()
    assert not scored()
    fresh = probe(run, TASK, fresh=True)
    assert fresh.to_json() == second.to_json()
    assert scored() == ["ours", "theirs"]
    open_store(tmp_path / "s.kv").remove_run("theirs")
    assert {row["run"] for row in probe(run, TASK).baselines} == {"ours"}
    assert not scored()


@pytest.mark.slow
def test_a_run_that_grew_is_scored_whole(
    tmp_path: Path, root: Path, scored: Callable[[], list[str]]
) -> None:
    samples = samples_of(root)
    fill = planted(SPair71k(root, "test").pairs())
    store = tmp_path / "s.kv"
    part = probe(write_run(store, "spair71k", "test", root, samples[:-3], fill, name="ours"), TASK)
    full = probe(
        write_run(store, "spair71k", "test", root, samples, fill, name="ours", part_size=5), TASK
    )
    assert scored() == ["ours", "ours"]
    assert full.n > part.n


@pytest.mark.slow
def test_another_version_of_an_algorithm_computes_anew(
    run: Run, scored: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe(run, TASK)
    monkeypatch.setitem(provenance.ALGORITHMS, "co-segmentation", 99)
    probe(run, TASK)
    assert scored() == ["ours"]
    monkeypatch.setitem(provenance.ALGORITHMS, TASK, 99)
    assert probe(run, TASK).config["algorithm"] == 99
    assert scored() == ["ours"]


def test_every_task_and_command_has_a_version() -> None:
    """In the table, or said by the task's class."""
    from kvtool.tasks import TASKS

    commands = {"variance", "knockout", "paired", "prefix", "correlate", "average", "compare"}
    commands |= {"search", "answers", "sae", "lens", "attend", "surface", "knockout-each"}
    commands |= {"intervene", "intervention"}
    without = {name for name in TASKS.names() if not hasattr(TASKS.load(name), "version")}
    assert {*without, *commands} == provenance.ALGORITHMS.keys()


@pytest.mark.slow
def test_a_kept_result_is_given_without_torch(run: Run) -> None:
    expected = best(probe(run, TASK))
    code = (
        "import sys, kvtool\n"
        f"result = kvtool.probe({str(run.store)!r}, {TASK!r})\n"
        "print(result.best['pck_image'], *sorted({'torch', 'transformers', 'scipy', 'sklearn'} & "
        "sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == [repr(expected)]


@pytest.mark.slow
def test_what_another_process_scores_is_not_scored_again(
    run: Run, scored: Callable[[], list[str]]
) -> None:
    """The claim that it holds is that of the result's key."""
    from kvtool.errors import BusyError
    from kvtool.store.shares import Share

    share = Share()
    probe(run, TASK, share=share)
    (name,) = share.done
    scored()
    with run.claim(name):
        probe(run, TASK)  # kept: nobody has to wait
        with pytest.raises(BusyError, match=f"^{name} of run ours is held by process "):
            probe(run, TASK, fresh=True)
    assert scored() == []


@pytest.mark.slow
def test_a_damaged_result_is_scored_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert_computed_again(run.store, lambda: probe(run, TASK), monkeypatch, caplog)
