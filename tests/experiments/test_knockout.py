"""Knockout from questions to scores: a planted effect, what is asked and kept, what is left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kvtool
from kvtool.asking.answering import Answerer
from kvtool.errors import KvtoolError, ModelError, UsageError
from kvtool.experiments.variance.run import variance
from kvtool.models.families.llava import Llava
from kvtool.reporting.emit import emit
from kvtool.reporting.numbers import p_value
from kvtool.result import Result, Row
from tests.support.damage import assert_computed_again
from tests.support.planted import CONSTANT, NOISY, planted_mme, planted_model, planted_pope

OPTIONS: dict[str, Any] = {"max_new_tokens": 1}
CONTROLS = ("dependent", "random")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_model(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_pope(tmp_path_factory.mktemp("benchmarks") / "pope")


@pytest.fixture(scope="module")
def mme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_mme(tmp_path_factory.mktemp("benchmarks") / "mme")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model: Path, pope: Path) -> Path:
    """A store whose run holds POPE's images."""
    path = tmp_path_factory.mktemp("stores") / "s.kv"
    kvtool.extract(path, model=str(model), dataset=f"pope:{pope}", kinds=("key", "value"))
    return path


def summaries(result: Result) -> list[Row]:
    return [row for row in result.rows if "file" not in row and "subset" not in row]


def by_condition(result: Result) -> dict[str, Row]:
    """The row over all parts of each condition, means over draws."""
    return {
        row["condition"]: row
        for row in reversed(summaries(result))
        if row.get("draw", "all") == "all"
    }


class Counted:
    """How many (image, heads) were asked of the model, and stops after some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.images: list[str] = []
        self.asked: list[tuple[str, int, int]] = []
        original = Answerer._generate

        def generate(answerer: Answerer, image: str, todo: Any) -> Any:
            if len(self.images) == stop_after:
                raise KeyboardInterrupt
            self.images.append(image)
            self.asked += [
                (image, len(heads), len(texts)) for heads, texts in todo.items() if texts
            ]
            return original(answerer, image, todo)

        monkeypatch.setattr(Answerer, "_generate", generate)


@pytest.mark.parametrize("layers", [None, "late", (4, 5)])
def test_knocking_out_the_planted_heads_restores_the_answers(
    store: Path, pope: Path, layers: Any
) -> None:
    result = kvtool.knockout(
        store,
        f"pope:{pope}",
        sorted(NOISY),
        layers=layers,
        controls=CONTROLS,
        draws=4,
        seed=3,
        **OPTIONS,
    )
    rows = by_condition(result)
    assert list(rows) == ["random", "dependent", "late", "chosen", "none"]
    assert {name: row["accuracy"] for name, row in rows.items() if name != "random"} == {
        "none": 0.5, "chosen": 1.0, "late": 1.0, "dependent": 0.5,
    }  # fmt: skip
    # A drawn pair may hold one of the noisy heads; the other one is still loud enough.
    controls = [
        condition["heads"]
        for condition in result.config["conditions"]
        if condition["condition"] == "random"
    ]
    assert all({tuple(head) for head in heads} != NOISY for heads in controls)
    assert rows["random"]["accuracy"] == 0.5
    assert rows["none"]["yes_ratio"] == rows["chosen"]["yes_ratio"] == 0.5
    assert rows["chosen"] | {"n": 48, "n_lost": 0, "n_gained": 24, "n_heads": 2} == rows["chosen"]
    assert rows["chosen"]["mcnemar_p"] == pytest.approx(2 * 0.5**24, rel=1e-9)
    # Eight of eight pictures are not certainty: Wilson's interval of them.
    assert rows["chosen"]["f1_low"] == pytest.approx(0.676, abs=1e-3)
    assert rows["chosen"]["f1_high"] == 1.0
    assert rows["chosen"]["mcnemar_holm_p"] == pytest.approx(2 * rows["chosen"]["mcnemar_p"])
    assert (rows["chosen"]["n_pictures"], rows["chosen"]["n_distinct"]) == (8, 48)
    # Of every picture half the questions are right: other pictures would change nothing.
    assert rows["none"]["accuracy_low"] == rows["none"]["accuracy_high"] == 0.5


def test_input_agnostic_keys_are_found_and_blocked(
    store: Path, pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, and as rows through a pipe."""
    result = kvtool.knockout(
        store, f"pope:{pope}", "agnostic", layers="late", controls=["dependent"], **OPTIONS
    )
    heads = {
        condition["condition"]: {tuple(h) for h in condition["heads"]}
        for condition in result.config["conditions"]
    }
    assert heads["chosen"] == heads["late"] == NOISY
    assert not heads["dependent"] & CONSTANT
    rows = by_condition(result)
    assert {name: row["accuracy"] for name, row in rows.items()} == {
        "none": 0.5, "chosen": 1.0, "late": 1.0, "dependent": 0.5,
    }  # fmt: skip
    emit(variance(kvtool.open(store).run()), "jsonl")
    lines = capsys.readouterr().out
    assert lines.count("\n") == 24
    (tmp_path / "v.jsonl").write_text(lines)
    piped = kvtool.knockout(
        store, f"pope:{pope}", tmp_path / "v.jsonl", controls=["dependent"], **OPTIONS
    )
    assert by_condition(piped)["early"]["n_heads"] == 4
    assert {tuple(h) for h in piped.config["conditions"][1]["heads"]} == CONSTANT


def test_no_input_agnostic_key_is_said(tmp_path: Path, tiny_model: Path, pope: Path) -> None:
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"pope:{pope}")
    with pytest.raises(
        UsageError, match=r"heads agnostic: run .* has no input-agnostic key: not bimodal"
    ):
        kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", "agnostic", **OPTIONS)


def test_one_noisy_head_alone_changes_nothing(store: Path, pope: Path) -> None:
    rows = by_condition(kvtool.knockout(store, f"pope:{pope}", [(4, 1)], **OPTIONS))
    assert rows["chosen"]["accuracy"] == 0.5
    assert (rows["chosen"]["n_lost"], rows["chosen"]["n_gained"], rows["chosen"]["mcnemar_p"]) == (
        0,
        0,
        1.0,
    )


def test_blocking_every_head_leaves_the_question(store: Path, pope: Path) -> None:
    heads = [(layer, head) for layer in range(6) for head in range(4)]
    rows = by_condition(kvtool.knockout(store, f"pope:{pope}", heads, **OPTIONS))
    assert {name: row["accuracy"] for name, row in rows.items()} == {
        "none": 0.5, "chosen": 1.0, "early": 0.5, "middle": 0.5, "late": 1.0,
    }  # fmt: skip


def test_mme_images_are_extracted_with_the_settings_of_the_run(
    tmp_path: Path, model: Path, pope: Path, mme: Path
) -> None:
    path = tmp_path / "s.kv"
    kvtool.extract(
        path, model=str(model), dataset=f"pope:{pope}", prefix="text:red", dtype="float32"
    )
    (base,) = kvtool.open(path).runs()
    for _ in range(
        2
    ):  # the second time the store holds two runs, and the first is still the one that is meant
        result = kvtool.knockout(path, f"mme:{mme}", sorted(NOISY), **OPTIONS)
        assert kvtool.open(path).runs() == [base, f"{base}+mme"]
        config = kvtool.open(path).run(f"{base}+mme").config
        assert (config.prefix, config.model.dtype, config.kinds) == (
            "text:red",
            "float32",
            ("key", "value"),
        )
        rows = by_condition(result)
        # One of two questions is right of each image, so that none is wholly right.
        assert (
            rows["none"] | {"score": 50.0, "acc": 50.0, "acc_plus": 0.0, "n": 16, "n_questions": 32}
            == rows["none"]
        )
        assert (
            rows["chosen"] | {"score": 200.0, "acc_plus": 100.0, "total": 400.0} == rows["chosen"]
        )
        assert rows["none"]["yes_ratio"] == 50.0
        assert [
            row["subset"] for row in result.rows if row["condition"] == "late" and "subset" in row
        ] == [
            "existence",
            "position",
        ]
        assert result.unit == "percent"


def test_cocos_own_run_serves_pope(tmp_path: Path, model: Path, pope: Path) -> None:
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"coco:{pope}@val2014")
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)
    assert kvtool.open(tmp_path / "s.kv").runs() == [result.config["run"]]
    assert by_condition(result)["chosen"]["accuracy"] == 1.0
    copy = planted_pope(tmp_path / "copy")  # the same pictures in another folder
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{copy}", sorted(NOISY), **OPTIONS)
    assert not result.config["run"].endswith("+pope")
    second = planted_pope(tmp_path / "other")  # the same names are not the same pictures
    for path in (second / "val2014").iterdir():
        with Image.open(path) as picture:
            picture.resize((44, 44)).save(path)
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{second}", sorted(NOISY), **OPTIONS)
    assert result.config["run"].endswith("+pope")


def test_the_tower_never_runs_when_the_run_holds_the_images(
    store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the tower ran")

    monkeypatch.setattr(Llava, "encode", refuse)
    result = kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), fresh=True, **OPTIONS)
    assert by_condition(result)["chosen"]["accuracy"] == 1.0


@pytest.mark.slow
def test_an_interrupted_call_goes_on_at_the_next_image(
    store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 2}
    with monkeypatch.context() as patch:
        first = Counted(patch, stop_after=3)
        with pytest.raises(KeyboardInterrupt):
            kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), **options)
    with monkeypatch.context() as patch:
        second = Counted(patch)
        result = kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), **options)
    assert (len(first.images), len(second.images)) == (3, 5)
    assert not set(first.images) & set(second.images)
    with monkeypatch.context() as patch:
        third = Counted(patch)
        again = kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), **options)
        assert third.asked == []
        assert again.to_json() == json.loads(json.dumps(result.to_json()))
        kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), controls=["random"], **options)
        assert third.asked == [
            (f"{index:03d}", 2, 6) for index in range(8)
        ]  # the new condition alone
    with monkeypatch.context() as patch:
        fresh = Counted(patch)
        kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), fresh=True, **options)
        assert len(fresh.asked) == 16


def test_a_question_asked_twice_is_answered_once(
    tmp_path: Path, store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POPE's three files ask the same of what is there."""
    folder = tmp_path / "pope"
    folder.mkdir()
    (folder / "val2014").symlink_to(pope / "val2014")
    for name in ("random", "popular"):
        (folder / f"coco_pope_{name}.json").write_text((pope / "coco_pope_random.json").read_text())
    counted = Counted(monkeypatch)
    result = kvtool.knockout(store, f"pope:{folder}", sorted(NOISY), fresh=True, **OPTIONS)
    assert {texts for _, _, texts in counted.asked} == {6}
    assert (result.n, by_condition(result)["chosen"]["n_gained"]) == (96, 24)
    assert by_condition(result)["chosen"]["n_distinct"] == 48
    assert [row["file"] for row in result.rows[:3] if "file" in row] == ["random", "popular"]
    assert by_condition(result)["none"]["macro_f1"] == by_condition(result)["none"]["f1"]


def test_answers_are_written_in_full_and_score_the_same(
    tmp_path: Path, store: Path, pope: Path, mme: Path
) -> None:
    options: Any = {"controls": ["random"], "draws": 2, **OPTIONS}
    result = kvtool.knockout(
        store,
        f"pope:{pope}",
        sorted(NOISY),
        answers=tmp_path / "a" / "p.jsonl",
        official=tmp_path / "pope",
        **options,
    )
    lines = [json.loads(line) for line in (tmp_path / "a" / "p.jsonl").read_text().splitlines()]
    assert len(lines) == 48 * 5
    assert lines[0] == {
        "condition": "none", "file": "random", "question_id": "random/1", "image": "000",
        "text": "is there a cat in the image", "label": "yes", "answer": "no", "said": "no",
        "correct": False,
    }  # fmt: skip
    assert {line.get("draw") for line in lines if line["condition"] == "random"} == {0, 1}
    assert sorted(path.name for path in (tmp_path / "pope").iterdir()) == [
        "chosen", "late", "none", "random-0", "random-1",
    ]  # fmt: skip
    for condition in ("none", "chosen"):
        scored = kvtool.score(
            "pope", answers=[tmp_path / "pope" / condition / "coco_pope_random.json"]
        ).rows[0]
        ours = by_condition(result)[condition]
        assert all(
            scored[name] == ours[name]
            for name in ("f1", "macro_f1", "accuracy", "yes_ratio", "f1_low")
        )
    result = kvtool.knockout(
        store, f"mme:{mme}", sorted(NOISY), official=tmp_path / "mme", **options
    )
    for condition in ("none", "chosen"):
        scored = kvtool.score("mme", answers=tmp_path / "mme" / condition).rows[0]
        ours = by_condition(result)[condition]
        assert all(
            scored[name] == ours[name]
            for name in ("score", "acc", "acc_plus", "total", "score_high")
        )
    first = (tmp_path / "mme" / "none" / "position.txt").read_text().splitlines()[0]
    assert first == "000.png\tis the cat on the left\tYes\tno"


def test_a_limit_asks_about_the_first_images(
    store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    result = kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), limit=2, fresh=True, **OPTIONS)
    assert (result.n, counted.images) == (12, ["000", "001"])


def test_images_that_are_not_there_are_counted(tmp_path: Path, model: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=4)
    (pope / "val2014" / "001.png").unlink()
    (pope / "val2014" / "002.png").write_bytes(b"no picture")
    result = kvtool.knockout(
        tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **OPTIONS
    )
    assert (result.n, result.n_skipped, len(result.skipped)) == (12, 12, 10)
    assert result.skipped[0].startswith("question random/7: ")
    assert "no such file" in result.skipped[0]
    for path in (pope / "val2014").iterdir():
        path.unlink()
    with pytest.raises(KvtoolError, match="found none"):
        kvtool.knockout(
            tmp_path / "t.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **OPTIONS
        )


def test_what_the_run_holds_needs_no_picture(tmp_path: Path, model: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=2)
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"pope:{pope}")
    (pope / "val2014" / "001.png").unlink()
    result = kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)
    assert (result.n, result.n_skipped) == (12, 0)


def test_another_model_under_the_runs_name_is_refused(tmp_path: Path) -> None:
    pope = planted_pope(tmp_path / "pope", n_images=2)
    model = planted_model(tmp_path / "model")
    kvtool.extract(tmp_path / "s.kv", model=str(model), dataset=f"pope:{pope}")
    (model / "generation_config.json").write_text("{}")
    with pytest.raises(
        ModelError, match=r"expected revision files-\w+, .* found files-\w+; give the folder"
    ):
        kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), **OPTIONS)


def test_several_runs_need_a_name(tmp_path: Path, model: Path, pope: Path) -> None:
    path = tmp_path / "s.kv"
    runs = [
        kvtool.extract(path, model=str(model), dataset=f"pope:{pope}", prefix=p).run
        for p in ("none", "random")
    ]
    with pytest.raises(UsageError, match=r"expected one run or a name \(--run\)"):
        kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), **OPTIONS)
    result = kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), run=runs[1], **OPTIONS)
    assert (result.config["run"], result.config["prefix"]) == (runs[1], "random")
    repeat = kvtool.knockout(
        kvtool.open(path).run(runs[1]), f"pope:{pope}", sorted(NOISY), **OPTIONS
    )
    assert repeat.rows == result.rows


def test_pre_rope_keys_and_the_full_view_answer_too(
    tmp_path: Path, model: Path, pope: Path
) -> None:
    settings: list[dict[str, Any]] = [{"keys": "pre-rope"}, {"view": "full"}]
    for options in settings:
        path = tmp_path / f"{next(iter(options))}.kv"
        kvtool.extract(path, model=str(model), dataset=f"pope:{pope}", **options)
        rows = by_condition(kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), **OPTIONS))
        assert (rows["none"]["accuracy"], rows["chosen"]["accuracy"]) == (0.5, 1.0)


def test_the_table_has_a_line_for_each_condition(
    store: Path, pope: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = kvtool.knockout(
        store, f"pope:{pope}", sorted(NOISY), controls=CONTROLS, draws=2, **OPTIONS
    )
    emit(result, "table")
    printed = capsys.readouterr().out.splitlines()
    none_line, chosen_line = (
        line for line in printed if line.split()[:1] in (["none"], ["chosen"])
    )
    assert (none_line.split()[1:3], none_line.split()[-1]) == (["0", "50.0"], "50.0")
    # The test by picture: of eight, one order in 128 is as far apart, whatever their questions.
    row = by_condition(result)["chosen"]
    tests = [p_value(row[name]) for name in ("picture_p", "picture_holm_p")]
    assert row["picture_p"] == pytest.approx(2 / 2**8, rel=0.5)
    assert chosen_line.split() == [
        "chosen", "2", "100.0", "[67.6,", "100.0]", "50.0", *tests,
    ]  # fmt: skip
    assert [line.split()[1] for line in printed if line.split()[:1] == ["random"]] == [
        "2",
        "0",
        "1",
    ]
    assert max(map(len, printed)) <= 80


@pytest.mark.parametrize(
    ("benchmark", "options", "match"),
    [
        (
            "coco:{pope}",
            {},
            "benchmark: expected one of pope:PATH, mme:PATH, blink:PATH, cvbench:PATH, own:PATH, "
            "scenes, scenes@mme; "
            "found 'coco:",
        ),
        ("scenes@coco", {}, "benchmark: expected one of"),
        ("pope:{pope}", {"heads": [(9, 0)]}, "heads: row 1: expected layer from 0 to 5, found 9"),
        ("pope:{pope}", {"heads": []}, "heads given: expected at least one head, found none"),
        ("pope:{pope}", {"layers": "early"}, "layers: expected some that hold a chosen head"),
        ("pope:{pope}", {"max_new_tokens": 0}, "max_new_tokens: expected a whole number from 1 "),
        ("pope:{pope}", {"limit": 0}, "limit: expected a whole number from 1 "),
        ("pope:{pope}", {"device": "tpu"}, "device"),
    ],
)
def test_bad_requests(
    store: Path, pope: Path, benchmark: str, options: dict[str, Any], match: str
) -> None:
    heads = options.pop("heads", sorted(NOISY))
    with pytest.raises(UsageError, match=match):
        kvtool.knockout(store, benchmark.format(pope=pope), heads, **{"fresh": True, **options})


def test_no_store_and_no_model(tmp_path: Path, pope: Path) -> None:
    with pytest.raises(KvtoolError, match="expected a kvtool store"):
        kvtool.knockout(tmp_path / "none.kv", f"pope:{pope}", sorted(NOISY))


def test_damaged_answers_and_results_are_asked_again(
    store: Path,
    pope: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copy = tmp_path / "s.kv"
    shutil.copytree(store, copy)
    shutil.rmtree(copy / "results")
    (copy / "results").mkdir()

    def command() -> Result:
        return kvtool.knockout(copy, f"pope:{pope}", sorted(NOISY), limit=4, **OPTIONS)

    assert_computed_again(copy, command, monkeypatch, caplog)
