"""One condition chosen on one half of the pictures and scored on the other: planted, and null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.benchmarks import own_benchmark
from kvtool.asking.condition_answers import Answers
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.heads import HeadSet
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.experiments.intervene.conditions import MethodConditions, candidates, with_controls
from kvtool.experiments.intervene.study import best_condition
from kvtool.models.methods import parse_methods
from kvtool.result import Result
from kvtool.stats.halves import halves
from kvtool.stats.mcnemar import mcnemar
from kvtool.types import Geometry
from tests.support.fields import assert_documented
from tests.support.planted import NOISY

OPTIONS: dict[str, Any] = {"max_new_tokens": 1, "select": "split"}


@pytest.fixture(scope="module")
def result(store: Path, pope: str) -> Result:
    """Two noisy heads of three, which spoil answers together."""
    heads = [*sorted(NOISY), (2, 3)]
    return kvtool.intervene(
        store, pope, heads, ["scale:0.9", "block"], controls=["dependent"], **OPTIONS
    )


@pytest.mark.slow
def test_what_is_chosen_on_one_half_holds_on_the_other(result: Result) -> None:
    selection = result.config["selection"]
    assert selection["chosen"] == {
        "condition": "block",
        "draw": None,
        "method": "block",
        "heads": [[2, 3], [4, 1], [5, 2]],
    }
    # Both methods in all three heads, and in each of them alone.
    assert len(selection["candidates"]) == 1 + 2 * 4
    scores = {entry["condition"]: entry["score"] for entry in selection["candidates"]}
    assert (scores["block"], scores["block 2:3"]) == (1.0, scores["none"])
    assert (selection["n_questions"], selection["n_pictures"]) == (12, 2)
    totals = [row for row in result.rows if "file" not in row]
    assert [row["condition"] for row in totals] == ["none", "block", "block dependent"]
    assert [row["accuracy"] for row in totals] == [0.5, 1.0, 0.5]
    assert totals[1]["mcnemar_p"] == pytest.approx(2 * 0.5**6)
    assert result.n == 12
    assert_documented(result.to_json())


@pytest.mark.slow
def test_a_single_head_is_chosen_where_it_is_the_best(store: Path, pope: str) -> None:
    """Blocking (0, 0), which says what the question asks about, spoils what is left."""
    heads = [(4, 1), (5, 2), (0, 0)]
    result = kvtool.intervene(store, pope, heads, "mean-value", **OPTIONS)
    choice = result.config["selection"]["chosen"]
    scores = {e["condition"]: e["score"] for e in result.config["selection"]["candidates"]}
    assert scores[choice["condition"]] == max(scores[name] for name in scores if name != "none")


@pytest.mark.slow
def test_no_picture_is_on_both_halves(store: Path, pope: str, tmp_path: Path) -> None:
    """The questions that are asked of controls are those of the half that did not choose."""
    path = tmp_path / "answers.jsonl"
    result = kvtool.intervene(store, pope, sorted(NOISY), "block", answers=path, **OPTIONS)
    scored = {line.split('"image": ')[1].split(",")[0] for line in path.read_text().splitlines()}
    assert len(scored) == 2
    assert result.config["selection"]["n_pictures"] == 2


@pytest.mark.slow
def test_one_picture_cannot_be_halved(store: Path, pope: str) -> None:
    with pytest.raises(UsageError, match="--select split: expected questions about 2 pictures or"):
        kvtool.intervene(store, pope, [(4, 1)], "block", limit=1, **OPTIONS)
    with pytest.raises(UsageError, match="select: expected split or none, found 'max'"):
        kvtool.intervene(store, pope, [(4, 1)], "block", select="max")


def test_ties_are_broken_by_margins_then_by_order() -> None:
    margins = np.array([[9.0, 9.0], [1.0, 2.0], [3.0, 1.0], [3.0, 1.0], [7.0, np.nan]])
    assert best_condition([1.0, 0.5, 0.5, 0.5, 0.2], margins) == 2
    assert best_condition([1.0, 0.5, 0.5, 0.6, 0.2], margins) == 3
    assert best_condition([1.0, np.nan, 0.5, 0.5, 0.6], np.full((5, 2), np.nan)) == 4


def test_controls_go_with_what_is_chosen() -> None:
    geometry = Geometry(
        layers=3, q_heads=4, kv_heads=2, head_dim=8, hidden=32, vision_layers=2, vision_dim=8
    )
    heads = HeadSet(frozenset({(0, 1), (1, 0)}), frozenset({(0, 0), (1, 1)}))
    methods = parse_methods("scale:0.5,2")
    make = MethodConditions(methods, ["random"], 2, 0, singles=True)
    conditions, notes = make(heads, geometry, None)
    names = [condition.name for condition in candidates(conditions)]
    assert names == [
        "none",
        "scale:0.5", "scale:2", "scale:0.5 0:1", "scale:2 0:1", "scale:0.5 1:0", "scale:2 1:0",
    ]  # fmt: skip
    # A layer has one other head than the one that is treated.
    assert notes == ["control random: distinct draws in these layers: 1, not 2"]
    single = next(condition for condition in conditions if condition.name == "scale:2 0:1")
    group = with_controls(conditions, single)
    assert [(condition.name, condition.draw) for condition in group] == [
        ("none", None), ("scale:2 0:1", None),
        ("scale:2 0:1 random", 0),
    ]  # fmt: skip
    assert group[-1].heads == {(0, 0)}


@pytest.mark.slow
def test_choosing_brings_no_luck_to_the_other_half() -> None:
    """Twenty conditions that only guess: the best of them is sure of something on the half that
    chose it, and hardly ever on the other one.
    """
    benchmark = own_benchmark("own")
    questions = [
        Question(str(n), (f"p{n // 2}",), f"is it {n}", f"is it {n}", ("yes", "no")[n % 2], "")
        for n in range(80)
    ]
    parts = halves(80, 0, np.arange(80) // 2)
    sheets = [AnswerSheet(benchmark, [questions[index] for index in part], {}, 0) for part in parts]
    n_sure = np.zeros(2)
    for seed in range(150):
        rng = np.random.default_rng(seed)
        words = np.where(rng.random((21, 80)) < 0.5, "yes", "no")
        answers = [
            [Answers(f"{seed}-{n}", None, n, tuple(row[part])) for n, row in enumerate(words)]
            for part in parts
        ]
        scores = [sheets[0].score_of(entry) for entry in answers[0]]
        best = best_condition(scores, np.full((21, 40), np.nan))
        assert scores[best] == max(scores[1:])
        for half, (sheet, entries) in enumerate(zip(sheets, answers, strict=True)):
            right = [sheet.correct(entries[index]) for index in (0, best)]
            n_sure[half] += mcnemar(*right).p < 0.05
    assert n_sure[0] > 15  # where it was chosen
    assert n_sure[1] <= 12  # of 150 at 5 %, more has a chance of 5 %; the exact test is cautious
