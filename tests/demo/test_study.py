"""The demo from nothing to its page on the shipped model: each part in small, the others are the
same steps.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from kvtool.demo import study
from kvtool.result import Result
from kvtool.store.verify import verify
from kvtool.tasks import TASKS

SMALL = {
    "PROBES": (study.Analysis("spair71k", "semantic-correspondence"),),
    "PREFIXES": (study.Analysis("spair71k", "semantic-correspondence"),),
    "PAIRED": (study.Analysis("blink", "visual-similarity"),),
    "STAGES": (),
    "SEGMENTED": ("refcoco",),
    "QUESTION_SETS": ("cvbench", "blink"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[Result]]:
    """The folder of a small demo, the steps it told of, and its results."""
    folder, steps = tmp_path_factory.mktemp("demo"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(study, name, value)
        patch.setattr(study.DemoStudy, "correlation", lambda _: iter(()))
        results = list(study.run_demo(folder, step=steps.append))
        assert list(study.run_demo(folder)) == results
    return folder, steps, results


def test_every_part_gives_its_result(demo: tuple[Path, list[str], list[Result]]) -> None:
    folder, steps, results = demo
    assert [result.command for result in results] == [
        "probe",
        "variance",
        "knockout",
        "prefix",
        "paired",
        "average",
        "compare",
    ]
    store = kvtool.open(folder / "study.kv")
    assert verify(store) == []
    assert len(store.first_runs()) == 4
    assert len(store.runs()) == 7
    assert "report.html" in steps[-1]


def test_the_probe_of_the_demo(demo: tuple[Path, list[str], list[Result]]) -> None:
    result = demo[2][0]
    blocks = {(row["layer"], row["kv_head"]) for row in result.rows if row["kind"] == "value"}
    assert blocks == {(layer, kv_head) for layer in range(8) for kv_head in range(2)}
    assert result.best is not None
    assert len({row["run"] for row in result.baselines}) == 2


def test_heads_of_least_variance_stand_in_where_there_are_no_two_modes(
    demo: tuple[Path, list[str], list[Result]],
) -> None:
    variance, knockout = demo[2][1:3]
    least = sorted(variance.rows, key=lambda row: float(row["variance"]))[: study.QUIETEST]
    assert not any(row["input_agnostic"] for row in variance.rows)
    (condition,) = (
        entry for entry in knockout.config["conditions"] if entry["condition"] == "chosen"
    )
    assert condition["heads"] == sorted([row["layer"], row["kv_head"]] for row in least)


def test_the_page_holds_every_result(demo: tuple[Path, list[str], list[Result]]) -> None:
    page = (demo[0] / "report.html").read_text(encoding="utf-8")
    words = ("Semantic correspondence", "Knockout", "isual similarity", "Input-agnostic")
    for word in (*words, "Averages over tasks", "Runs compared"):
        assert word in page


def test_every_task_and_command_is_part_of_the_demo() -> None:
    assert {analysis.task for analysis in study.PROBES} == set(TASKS.names())
    assert set(study.STAGES) == {"demo@1", "demo@2", "demo@3"}
