"""Paired tasks over planted values and answers, without a model: cells, table, halves, what is left
out.
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
from kvtool.experiments.paired.run import paired
from kvtool.reporting.emit import emit
from tests.support.fields import assert_documented, documented
from tests.support.paired import MODEL_RIGHT, VALUE_RIGHT, plant_answers, planted_run, questions_of
from tests.support.units import PLANTED

CELLS = ["both"] * 4 + ["value_only"] * 5 + ["model_only"] * 2 + ["neither"]


def shares(row: dict[str, Any]) -> list[float]:
    return [row[name] for name in ("both", "value_only", "model_only", "neither")]


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert "layer 5, head 1, the best of all, which is optimistic; n = 12" in " ".join(text.split())
    for name, count, share in (
        ("model right", "6", "50.0"), ("value right, model wrong", "5", "41.7"),
        ("value wrong, model right", "2", "16.7"), ("model or value right", "11", "91.7"),
    ):  # fmt: skip
        assert lines[name][:2] == [count, share]
    assert f"p = {binomtest(2, 7).pvalue:.3f} exact" in text
    assert "*75.0" in text
    assert "projected" in text


@pytest.mark.slow
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
    out = StringIO()
    emit(result, "table", out)
    assert "chosen on the other half; n = 6 of 12" in " ".join(out.getvalue().split())
    lines = out.getvalue().split("right, %, 95 % interval")[1].splitlines()
    counts = {line.split()[0].rstrip(","): line.split()[-1] for line in lines if "," in line}
    assert counts["value"] == "6"


@pytest.mark.slow
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


@pytest.mark.slow
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
