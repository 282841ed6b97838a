"""What a knockout asks, what it keeps of the answers, and the files that it writes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.models.families.llava import Llava
from kvtool.result import Result
from tests.experiments.knockout.asked import OPTIONS, Counted, by_condition
from tests.support.damage import assert_computed_again
from tests.support.planted import NOISY


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        path = tmp_path / "pope" / condition / "coco_pope_random.json"
        scored, row = kvtool.score("pope", answers=[path]).rows[0], by_condition(result)[condition]
        for name in ("f1", "macro_f1", "accuracy", "yes_ratio", "f1_low"):
            assert scored[name] == row[name]
    result = kvtool.knockout(
        store, f"mme:{mme}", sorted(NOISY), official=tmp_path / "mme", **options
    )
    for condition in ("none", "chosen"):
        path = tmp_path / "mme" / condition
        scored, row = kvtool.score("mme", answers=path).rows[0], by_condition(result)[condition]
        for name in ("score", "acc", "acc_plus", "total", "score_high"):
            assert scored[name] == row[name]
    first = (tmp_path / "mme" / "none" / "position.txt").read_text().splitlines()[0]
    assert first == "000.png\tis the cat on the left\tYes\tno"


@pytest.mark.slow
def test_a_limit_asks_about_the_first_images(
    store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    result = kvtool.knockout(store, f"pope:{pope}", sorted(NOISY), limit=2, fresh=True, **OPTIONS)
    assert (result.n, counted.images) == (12, ["000", "001"])


@pytest.mark.slow
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
