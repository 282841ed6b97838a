"""Interventions from questions to scores: planted effects, and what a result says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.models.intervention import Intervened
from kvtool.reporting.emit import emit
from kvtool.result import Result, Row
from tests.support.fields import assert_documented
from tests.support.planted import NOISY

HEADS = sorted(NOISY)
OPTIONS: dict[str, Any] = {"max_new_tokens": 1}
METHODS = ("block", "scale:0,0.5,1", "contrast:1")


@pytest.fixture(scope="module")
def result(store: Path, pope: str) -> Result:
    return kvtool.intervene(store, pope, HEADS, METHODS, controls=["random"], seed=3, **OPTIONS)


def by_condition(result: Result) -> dict[str, Row]:
    return {row["condition"]: row for row in result.rows if "file" not in row}


@pytest.mark.slow
def test_blocking_equals_knockout(result: Result, store: Path, pope: str) -> None:
    """And takes its answers from it, since nothing else is asked."""
    knockout = kvtool.knockout(store, pope, HEADS, seed=3, **OPTIONS)
    theirs = {row["condition"]: row for row in knockout.rows if "file" not in row}
    ours = by_condition(result)
    for name, condition in (("none", "none"), ("block", "chosen")):
        shared = theirs[condition].keys() - {"condition", "mcnemar_holm_p", "picture_holm_p"}
        assert {field: ours[name][field] for field in shared} == {
            field: theirs[condition][field] for field in shared
        }
    assert (ours["none"]["accuracy"], ours["block"]["accuracy"]) == (0.5, 1.0)


@pytest.mark.slow
def test_the_ends_of_a_strength_are_block_and_none(result: Result) -> None:
    rows = by_condition(result)
    labels = {"condition", "method", "strength"}
    assert {n: v for n, v in rows["scale:0"].items() if n not in labels} == {
        name: value for name, value in rows["block"].items() if name not in labels
    }
    for name, value in rows["none"].items():
        if name != "condition" and name != "n_heads":
            assert rows["scale:1"][name] == value
    assert rows["scale:1"]["margin_change"] == 0
    assert not any(name.endswith("_p") for name in rows["scale:1"])
    assert (rows["scale:0.5"]["method"], rows["scale:0.5"]["strength"]) == ("scale", 0.5)


@pytest.mark.slow
def test_margins_and_tests(result: Result) -> None:
    rows = by_condition(result)
    # Half of the answers are wrong by as much as the others are right.
    assert rows["none"]["margin"] == pytest.approx(0, abs=1e-6)
    block = rows["block"]
    assert (block["n_gained"], block["n_lost"], block["n_margins"]) == (12, 0, 24)
    assert block["mcnemar_p"] == pytest.approx(2 * 0.5**12)
    # Of five methods one does nothing and two do the same; so do their controls.
    assert sum(1 for row in rows.values() if "mcnemar_p" in row) == 8
    n_tests = 6
    assert block["mcnemar_holm_p"] == pytest.approx(n_tests * block["mcnemar_p"])
    assert block["margin_change"] > 1
    # All four pictures change, in one direction of two.
    assert block["margin_p"] == pytest.approx(2 / 2**4)
    # By as much as blocking makes answers surer, the contrast makes noise louder.
    assert rows["contrast:1"]["margin_change"] == pytest.approx(-block["margin_change"], rel=0.1)
    for name, row in rows.items():
        assert ("control" in row) == name.endswith(" random")
        assert row["accuracy"] == 0.5 or not name.endswith(" random")
    assert_documented(result.to_json())


@pytest.mark.slow
def test_the_second_time_nothing_is_asked(
    result: Result, store: Path, pope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Intervened, "ask")
    monkeypatch.delattr(Intervened, "logits")
    again = kvtool.intervene(store, pope, HEADS, METHODS, controls=["random"], seed=3, **OPTIONS)
    assert again.rows == result.rows
    # Fewer methods, and another seed: scored anew from what is stored, image by image.
    fewer = kvtool.intervene(store, pope, HEADS, "scale:0.5", seed=4, **OPTIONS)
    before, after = by_condition(result)["scale:0.5"], by_condition(fewer)["scale:0.5"]
    for name in ("accuracy", "margin", "n_lost", "n_gained"):
        assert after[name] == before[name]


@pytest.mark.slow
def test_the_table_fits_a_terminal(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    emit(result, "table")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (block,) = [line.split() for line in lines if line.split()[:2] == ["block", "2"]]
    assert block == ["block", "2", "100.0", "[51.0,", "100.0]", "0.732", "+1.451", "0.750"]


@pytest.mark.slow
def test_answers_are_written(result: Result, store: Path, pope: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    kvtool.intervene(store, pope, HEADS, "scale:0.5", answers=path, limit=1, **OPTIONS)
    assert result.n == 24
    assert len(path.read_text().splitlines()) == 12
