"""A data set of one's own through every command: from an empty folder, and as docs/own-data.md has
it.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.cli.app import app
from kvtool.errors import UsageError
from kvtool.result import Result
from kvtool.store import open_store
from kvtool.tasks import TASKS
from kvtool.tasks.evaluation import tasks_of
from tests.support import datasets as builders

PAGE = Path(__file__).parents[2] / "docs/own-data.md"
BLOCK: dict[str, Any] = {"layers": [1], "heads": [0]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model over all that `own:` reads, with a pair whose points are a ring apart."""
    folder = tmp_path_factory.mktemp("own")
    root = builders.own(folder / "data")
    points = {"nose": [20, 20], "tail": [280, 20], "ear": [20, 220], "paw": [280, 220]}
    for name in ("w0", "w1"):
        builders.picture(root / f"images/{name}.png", 300, 240)
    pair = {"images": ["w0", "w1"], "keypoints": [points, points]}
    small = (root / "pairs.jsonl").read_text()
    builders.write_text(root / "pairs.jsonl", json.dumps(pair) + "\n" + small)
    kvtool.extract(folder / "s.kv", model="demo", dataset=f"own:{root}", devices=("cpu",))
    return folder / "s.kv"


@pytest.mark.slow
def test_every_task_is_served(store: Path) -> None:
    assert tasks_of(open_store(store).run()) == TASKS.names()
    counts = {"foreground-segmentation": 6}
    for task in TASKS.names():
        options: dict[str, Any] = {"episodes": 6} if task == "foreground-segmentation" else {}
        result = kvtool.probe(store, task, **BLOCK, **options)
        assert result.best is not None
        counts[task] = result.n
        assert result.n_skipped == (
            2 if task.endswith("segmentation") and task != "referring-expression" else 0
        )
    assert counts == {
        "foreground-segmentation": 6,
        "co-segmentation": 15,
        "semantic-segmentation": 14,
        "referring-expression": 3,
        "semantic-correspondence": 3,
        "temporal-correspondence": 2,
    }


@pytest.mark.slow
def test_predictions_have_the_ids_of_the_masks(store: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"all_classes": True, "save_predictions": tmp_path / "all"}
    result = kvtool.probe(store, "semantic-segmentation", **BLOCK, **options)
    assert result.best is not None
    assert {"miou", "miou_present"} <= result.best.keys()
    assert len(list((tmp_path / "all").glob("p*.png"))) == 14
    kvtool.probe(store, "semantic-segmentation", **BLOCK, save_predictions=tmp_path / "given")
    assert sorted(path.name for path in (tmp_path / "given/p00").iterdir()) == ["01.png", "02.png"]
    kvtool.probe(store, "co-segmentation", **BLOCK, save_predictions=tmp_path / "groups")
    assert (tmp_path / "groups/dog/p01.png").is_file()


@pytest.mark.slow
def test_knockout(store: Path, tmp_path: Path) -> None:
    spec = str(open_store(store).run().place)
    answers = tmp_path / "answers.jsonl"
    options: dict[str, Any] = {"max_new_tokens": 2, "answers": answers}
    result = kvtool.knockout(store, f"own:{spec}", [(1, 0)], **options)
    assert (result.metric, result.task, result.n, result.n_skipped) == ("accuracy", "own", 15, 4)
    assert (
        result.skipped[0] == "question like-2: it is about 3 images, and a stored cache is of one"
    )
    none = [row for row in result.rows if row["condition"] == "none"]
    assert [row.get("group") for row in none] == [None, "kind", "all"]
    assert none[0]["accuracy"] == pytest.approx(
        sum(row["accuracy"] * row["n"] for row in none[1:]) / 15
    )
    assert none[0]["macro_accuracy"] == pytest.approx(
        (none[1]["accuracy"] + none[2]["accuracy"]) / 2
    )
    lines = [json.loads(line) for line in answers.read_text().splitlines()][:15]
    assert sum(line["correct"] for line in lines) == round(15 * none[0]["accuracy"])
    with pytest.raises(UsageError, match="--official: expected pope or mme, found own"):
        kvtool.knockout(store, f"own:{spec}", [(1, 0)], official=tmp_path / "official")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "n"), [("image-choice", 4), ("two-choice", 8), ("semantic-correspondence", 4)]
)
def test_paired(store: Path, task: str, n: int) -> None:
    result = kvtool.paired(store, task, **BLOCK, max_new_tokens=2)
    assert (result.n, result.task) == (n, task)
    assert result.best is not None


@pytest.mark.slow
def test_prefix(store: Path) -> None:
    result = kvtool.prefix(
        store, "semantic-correspondence", conditions=["correct", "incorrect"], layers=[1]
    )
    assert {row["condition"] for row in result.rows} == {"none", "correct", "incorrect"}
    assert isinstance(result, Result)


@pytest.mark.slow
def test_what_the_files_do_not_serve_is_said(tmp_path: Path) -> None:
    root = builders.own(tmp_path / "data", per_class=1)
    kvtool.extract(tmp_path / "s.kv", model="demo", dataset=f"own:{root}", devices=("cpu",))
    (root / "pairs.jsonl").unlink()
    run = open_store(tmp_path / "s.kv").run()
    assert "semantic-correspondence" not in tasks_of(run)
    with pytest.raises(
        UsageError, match=r"data set that serves semantic-correspondence, found no pairs\.jsonl"
    ):
        kvtool.probe(run, "semantic-correspondence")


@pytest.mark.slow
def test_a_baseline_is_of_the_very_pictures(tmp_path: Path) -> None:
    """Pictures of one's own are often called alike: another model's run over others is no
    baseline.
    """
    for model, name in (("demo", "one"), ("demo@1", "other")):
        root = builders.own(tmp_path / name, per_class=2)
        if name == "other":
            builders.picture(root / "images/p00.png", seed=77)
        kvtool.extract(tmp_path / "s.kv", model=model, dataset=f"own:{root}", devices=("cpu",))
    first, second = (run for run in open_store(tmp_path / "s.kv").readable_runs())
    result = kvtool.probe(first, "co-segmentation", **BLOCK)
    assert {row["run"] for row in result.baselines} == {first.name}
    assert f"run {second.name} is no baseline: its pictures are other ones" in result.skipped


def blocks(kind: str) -> list[str]:
    """The page's blocks of code of a kind."""
    return re.findall(
        rf"^```{kind}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code makes the data set, and its commands say nothing is amiss."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KVTOOL_STORE", "")
    make, use = blocks("python")
    exec(compile(make, str(PAGE), "exec"), {})
    for line in "".join(blocks("sh")).splitlines():
        piped = ""
        for command in line.split(" | "):
            code, piped = run(shlex.split(command)[1:], piped)
            assert code == 0, (command, piped)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(use, str(PAGE), "exec"), {})
    assert "miou_fgbg" in output.getvalue()


def run(arguments: list[str], piped: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    outcome = CliRunner().invoke(app, arguments, input=piped)
    return outcome.exit_code, outcome.stdout or repr(outcome.exception)


@pytest.mark.slow
def test_where_no_question_is_left_the_data_set_to_extract_is_ones_own(
    store: Path, tmp_path: Path
) -> None:
    root = Path(str(open_store(store).run().config.dataset_path))
    few = tmp_path / "few.kv"
    kvtool.extract(few, model="demo", dataset=f"own:{root}", devices=("cpu",), limit=1)
    with pytest.raises(UsageError, match=r"extract them: .* --dataset own:PATH$"):
        kvtool.paired(few, "image-choice", max_new_tokens=2)
