"""Paired tasks from a store to a table: planted truth without a model, and the whole chain with a
tiny one.
"""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

import kvtool
import kvtool.models
from kvtool.datasets import open_dataset, parse_spec
from kvtool.demo.layouts import write_scenes
from kvtool.errors import UsageError
from kvtool.experiments.paired.points import QUESTIONS
from kvtool.experiments.paired.run import paired
from kvtool.models.several import SeveralImages
from kvtool.reporting.emit import emit
from kvtool.result import Result
from kvtool.store import Store, open_store
from kvtool.store.verify import verify
from tests.support.damage import assert_computed_again
from tests.support.fields import assert_documented, documented
from tests.support.paired import MODEL_RIGHT, VALUE_RIGHT, plant_answers, planted_run, questions_of
from tests.support.units import PLANTED, noise, sample, write_run

CELLS = ["both"] * 4 + ["value_only"] * 5 + ["model_only"] * 2 + ["neither"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, only=["blink", "spair71k"])
    return folder


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: Any, **_options: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(kvtool.models, "load_model", refused)


def shares(row: dict[str, Any]) -> list[float]:
    return [row[name] for name in ("both", "value_only", "model_only", "neither")]


@pytest.mark.parametrize("task", ["art-style", "visual-similarity"])
def test_planted_cells_come_out_as_counted_by_hand(
    tmp_path: Path, scenes: Path, no_model: None, task: str
) -> None:
    del no_model
    folder = scenes / "blink" / task.title().replace("-", "_")
    questions = questions_of(folder.parent, folder.name)
    run = planted_run(tmp_path / "s.kv", folder, questions, VALUE_RIGHT)
    plant_answers(run, questions, MODEL_RIGHT)
    result = kvtool.paired(tmp_path / "s.kv", task, answers=tmp_path / "answers.jsonl")
    best = result.best
    assert best is not None
    assert (best["kind"], best["layer"], best["kv_head"]) == ("value", *PLANTED)
    assert [best[f"n_{cell}"] for cell in dict.fromkeys(CELLS)] == [4, 5, 2, 1]
    assert shares(best) == pytest.approx([4 / 12, 5 / 12, 2 / 12, 1 / 12])
    assert (best["value"], best["model"], best["union"]) == pytest.approx((9 / 12, 6 / 12, 11 / 12))
    assert best["mcnemar_p"] == pytest.approx(binomtest(2, 7).pvalue)
    assert (best["chance"], best["n"], result.n, result.n_skipped) == (0.5, 12, 12, 0)
    assert [item["cell"] for item in result.items] == CELLS
    assert [item["id"] for item in result.items] == [question.id for question in questions]
    assert result.items[4]["answer"].startswith("The answer is (")
    assert {row["kind"] for row in result.baselines} == {"projected", "vision"}
    assert len(result.rows) == 8 * 2 + 2
    assert (result.config["split"], result.config["subset"]) == ("val", folder.name)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["cell"] for line in lines] == CELLS
    assert lines[0]["text"] == questions[0].prompt
    assert lines[0]["choices"] == list(questions[0].choices)
    assert_documented(result.to_json())
    assert set(result.items[0]) <= documented()


def test_the_table_shows_the_papers_lines(tmp_path: Path, scenes: Path, no_model: None) -> None:
    del no_model
    questions = questions_of(scenes / "blink", "Art_Style")
    run = planted_run(tmp_path / "s.kv", scenes / "blink" / "Art_Style", questions, VALUE_RIGHT)
    plant_answers(run, questions, MODEL_RIGHT)
    out = StringIO()
    emit(paired(run, "art-style"), "table", out)
    text = out.getvalue()
    lines = {line.split("  ")[0].strip(): line.split()[-4:] for line in text.splitlines()}
    assert "art-style" in text and "n = 12" in text  # noqa: PT018
    assert "blink@val · Art_Style · chance 50.0 %" in text
    assert "value: value, layer 5, head 1, the best of all, which is optimistic; n = 12" in text
    for name, count, share in (
        ("model right", "6", "50.0"), ("value right, model wrong", "5", "41.7"),
        ("value wrong, model right", "2", "16.7"), ("model or value right", "11", "91.7"),
    ):  # fmt: skip
        assert lines[name][:2] == [count, share]
    assert f"p = {binomtest(2, 7).pvalue:.3f} exact" in text
    assert "*75.0" in text
    assert "projected" in text


def test_split_chooses_on_one_half_and_reports_on_the_other(
    tmp_path: Path, scenes: Path, no_model: None
) -> None:
    del no_model
    questions = questions_of(scenes / "blink", "Art_Style")
    run = planted_run(tmp_path / "s.kv", scenes / "blink" / "Art_Style", questions, set(range(12)))
    plant_answers(run, questions, MODEL_RIGHT)
    best = (result := paired(run, "art-style", select="split")).best
    assert best is not None
    assert (best["select"], best["n"], best["chosen_value"], best["value"]) == (
        "split",
        6,
        1.0,
        1.0,
    )
    scored = [item for item in result.items if item["cell"] is not None]
    assert len(result.items) == 12
    assert len(scored) == 6
    for cell in ("both", "value_only"):
        assert best[f"n_{cell}"] == sum(item["cell"] == cell for item in scored)
    assert best["n_both"] == sum(item["model"] for item in scored)


def test_relative_depth_reads_a_planted_answer(
    tmp_path: Path, scenes: Path, no_model: None
) -> None:
    """And goes on from answers about single images as knockout keeps them."""
    del no_model
    folder = scenes / "blink" / "Relative_Depth"
    questions = questions_of(folder.parent, folder.name)
    run = planted_run(tmp_path / "s.kv", folder, questions, set())
    plant_answers(run, questions, MODEL_RIGHT)
    result = paired(run, "relative-depth", folds=3)
    best = result.best
    assert best is not None
    assert (best["layer"], best["kv_head"], best["value"], best["n_model_only"]) == (
        *PLANTED,
        1.0,
        0,
    )
    assert (best["n_both"], best["n_value_only"]) == (6, 6)
    assert (result.config["folds"], result.config["c"]) == (3, 0.01)
    assert_documented(result.to_json())
    assert all(row["value"] < 1 for row in result.rows if (row["layer"], row["kv_head"]) != PLANTED)


def test_what_is_left_out_is_said(tmp_path: Path, scenes: Path, no_model: None) -> None:
    """Images that the run lacks, and --n."""
    del no_model
    questions = questions_of(scenes / "blink", "Art_Style")
    run = planted_run(tmp_path / "s.kv", scenes / "blink" / "Art_Style", questions[:8], VALUE_RIGHT)
    plant_answers(run, questions[:8], MODEL_RIGHT)
    result = paired(run, "art-style")
    assert (result.n, result.n_skipped) == (8, 4)
    assert result.skipped[0] == (
        f"question {questions[8].id}: the run does not hold {', '.join(questions[8].image_ids)}"
    )
    assert paired(run, "art-style", n=3).n == 3


class Counted:
    """How many questions the model was asked, and stops before a batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        self.stop_at: int | None = None
        original = SeveralImages.ask_several

        def ask(model: Any, images: Any, texts: Any, max_new_tokens: int) -> list[str | None]:
            if self.stop_at is not None and len(self.texts) >= self.stop_at:
                raise KeyboardInterrupt
            self.texts += texts
            return original(model, images, texts, max_new_tokens)

        monkeypatch.setattr(SeveralImages, "ask_several", ask)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Store:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    for spec in (f"blink:{scenes}/blink/Art_Style@val", f"spair71k:{scenes}/spair71k"):
        kvtool.extract(path, model=str(tiny_model), dataset=spec, limit=36)
    return kvtool.open(path)


def test_an_interrupted_command_asks_only_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    monkeypatch.setattr("kvtool.experiments.paired.answers.AT_ONCE", 5)
    counted.stop_at = 5
    with pytest.raises(KeyboardInterrupt):
        kvtool.paired(store, "art-style", max_new_tokens=2)
    assert len(counted.texts) == 5
    counted.stop_at = None
    first = kvtool.paired(store, "art-style", max_new_tokens=2)
    assert len(counted.texts) == 12
    fewer = kvtool.paired(store, "art-style", max_new_tokens=2, layers=[0], seed=3)
    assert [item["answer"] for item in fewer.items] == [item["answer"] for item in first.items]
    assert kvtool.paired(store, "art-style", max_new_tokens=2) == Result.from_json(first.to_json())
    assert len(counted.texts) == 12
    kvtool.paired(store, "art-style", max_new_tokens=3)
    assert len(counted.texts) == 24
    again = kvtool.paired(store, "art-style", max_new_tokens=2, fresh=True)
    assert len(counted.texts) == 36
    assert again.rows == Result.from_json(first.to_json()).rows


def test_pictures_are_drawn_asked_about_and_kept(
    store: Store, tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    result = kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2)
    assert (result.n, len(counted.texts), result.metric) == (6, 6, "value")
    folder = store.pictures_dir(result.config["pictures"])
    lines = [json.loads(line) for line in (folder / QUESTIONS).read_text().splitlines()]
    assert [line["id"] for line in lines] == [item["id"] for item in result.items]
    assert [line["answer"] for line in lines] == [item["label"] for item in result.items]
    assert [line["images"] for line in lines] == [item["images"] for item in result.items]
    assert all((folder / file).is_file() for item in result.items for file in item["files"])
    assert verify(store) == []
    assert_documented(result.to_json())
    assert set(result.items[0]) <= documented()
    assert result.best is not None
    assert {"value", "value_pck", "value_pck_low"} <= result.best.keys()
    custom = kvtool.paired(
        store, "semantic-correspondence", n=6, max_new_tokens=2, pictures=tmp_path / "own"
    )
    assert {path.name for path in (tmp_path / "own").iterdir()} == {
        path.name for path in folder.iterdir()
    } - {"manifest.json"}
    assert len(counted.texts) == 6
    assert custom.rows == Result.from_json(result.to_json()).rows
    by_pck = kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2, reading="pck")
    assert len(counted.texts) == 6
    assert by_pck.metric == "value_pck"
    for row in by_pck.rows:
        assert row["n_both"] + row["n_value_only"] == round(6 * row["value_pck"])
    dataset: Any = open_dataset(parse_spec(f"spair71k:{scenes}/spair71k"))
    pairs, ids = dataset.pairs(), set(store.run(result.config["run"]).ids)
    stored_pairs = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids]
    assert 0 < len(stored_pairs) < len(pairs)
    assert result.skipped == [
        f"{len(pairs) - len(stored_pairs)} of {len(pairs)} pairs have an image "
        "that the run does not hold"
    ]


def test_stored_images_answer_like_their_pixels(
    store: Store, tmp_path: Path, tiny_model: Path, scenes: Path
) -> None:
    """A run without projected features runs the tower again."""
    spec = f"blink:{scenes}/blink/Art_Style@val"
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("value",))
    ours = kvtool.paired(store, "art-style", max_new_tokens=2)
    second = kvtool.paired(tmp_path / "s.kv", "art-style", max_new_tokens=2)
    assert [item["answer"] for item in second.items] == [item["answer"] for item in ours.items]
    assert len({item["answer"] for item in ours.items}) > 1
    assert second.baselines == []


def bad_store(path: Path, scenes: Path, name: str) -> Store:
    folder = scenes / "blink" / "Art_Style"
    samples = [sample(str(i), i, (40, 30), (2, 2)) for i in range(3)]
    settings: dict[str, Any] = {
        "test": ("blink", "test", {}),
        "keys": ("blink", "val", {"kinds": ("key",)}),
        "other": ("coco", "val2014", {}),
        "foreign": ("blink", "val", {}),
    }
    if name == "none":
        return open_store(path, create=True)
    dataset, split, options = settings[name]
    write_run(path, dataset, split, folder, samples, noise(0), layers=2, **options)
    return open_store(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "none",
            r"store .* has no run; extract what it needs: "
            r"kvtool extract .* --model M --dataset blink:PATH@val",
        ),
        (
            "test",
            r"blink@test: answers hidden: use @val; extract what it needs: "
            r".* --dataset blink:PATH@val",
        ),
        ("other", r"is over coco, not blink; extract what it needs: .* --dataset blink:PATH@val"),
        ("keys", r"expected values, found key; extract with --kinds value among them"),
        (
            "foreign",
            r"expected questions of Art_Style about images that run .* holds, "
            r"found none \(question val_Art",
        ),
    ],
)
def test_runs_that_cannot_serve_say_what_to_extract(
    tmp_path: Path, scenes: Path, name: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        kvtool.paired(bad_store(tmp_path / "s.kv", scenes, name), "art-style")


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        (
            "counting",
            {},
            "unknown task 'counting'; known: semantic-correspondence, art-style, "
            "visual-similarity, rel",
        ),
        ("art-style", {"select": "best"}, "select: expected max or split, found 'best'"),
        ("art-style", {"n": 0}, "n: expected a whole number from 1 "),
        (
            "art-style",
            {"folds": 3},
            "paired art-style: no option folds here; it takes: none of its own",
        ),
        ("art-style", {"pictures": "x"}, "no option pictures here"),
        ("relative-depth", {"reading": "pck"}, "no option reading here; it takes: folds, c"),
        ("relative-depth", {"folds": 1}, "folds: expected a whole number from 2 "),
        (
            "semantic-correspondence",
            {"reading": "both"},
            "reading: expected choice or pck, found 'both'",
        ),
        ("visual-similarity", {}, "expected questions of Visual_Similarity"),
        ("art-style", {"n": 1, "select": "split"}, "expected two questions or more, found one"),
        ("art-style", {"run": "nowhere"}, "no run 'nowhere'"),
    ],
)
def test_bad_requests(store: Store, task: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        kvtool.paired(store, task, **options)


def test_asking_about_one_image_needs_its_whole_cache(
    tmp_path: Path, scenes: Path, tiny_model: Path
) -> None:
    spec = f"blink:{scenes}/blink/Relative_Depth@val"
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("value",))
    with pytest.raises(
        UsageError, match=r"expected keys and values of every layer, .* found value of 3 layers"
    ):
        kvtool.paired(tmp_path / "s.kv", "relative-depth")
    kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=spec, kinds=("key", "value"), run="whole"
    )
    with pytest.raises(
        UsageError, match=r"expected one run or a name \(--run\), found runs that serve it: .*whole"
    ):
        kvtool.paired(tmp_path / "s.kv", "relative-depth")
    result = kvtool.paired(tmp_path / "s.kv", "relative-depth", run="whole", max_new_tokens=2)
    assert result.n == 12


def test_damaged_answers_and_results_are_asked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def command() -> Result:
        return kvtool.paired(store, "semantic-correspondence", n=6, max_new_tokens=2)

    assert_computed_again(store, command, monkeypatch, caplog)
