"""The best of many blocks beside the best of as many that guess: figures, tests, words."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.experiments.paired.article import sentences
from kvtool.experiments.paired.guesses import guesses
from kvtool.experiments.paired.plot import draw
from kvtool.reporting.emit import emit
from kvtool.result import Result
from tests.support.fields import assert_documented
from tests.support.paired import MODEL_RIGHT, VALUE_RIGHT, plant_answers, planted_run, questions_of
from tests.support.scenes import World


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("blink")


def planted(path: Path, scenes: Path, value_right: set[int], model_right: set[int]) -> Any:
    folder = scenes / "blink" / "Art_Style"
    questions = questions_of(folder.parent, folder.name)
    run = planted_run(path, folder, questions, value_right)
    plant_answers(run, questions, model_right)
    return run


def test_the_best_of_112_guessing_blocks_has_the_papers_share() -> None:
    """Art style: 117 questions with two choices, 53.8 % of which the model has right."""
    model_right = np.arange(117) < 63
    row = guesses(np.full(117, 2), model_right, 112, 0)
    assert row["chance"] == 0.5
    assert row["guess_value_only"] == pytest.approx(54 / 117 / 2)
    assert row["chance_max"] == pytest.approx(0.616, abs=0.01)
    assert row["guess_best_value_only"] == pytest.approx(0.285, abs=0.01)
    assert 0.21 < row["guess_best_value_only_low"] < 0.25
    assert 0.32 < row["guess_best_value_only_high"] < 0.35


def test_guesses_are_what_a_loop_draws() -> None:
    rng = np.random.default_rng(5)
    n_choices = rng.choice([2, 3, 4], 30)
    model_right = rng.random(30) < 0.4
    best_right = []
    gains = []
    for _ in range(3000):
        right = rng.random((6, 30)) < 1 / n_choices
        best = max(range(6), key=lambda block: right[block].sum())
        best_right.append(right[best].mean())
        gains.append((right[best] & ~model_right).mean())
    row = guesses(n_choices, model_right, 6, 0)
    assert row["chance"] == pytest.approx((1 / n_choices).mean())
    assert row["chance_max"] == pytest.approx(np.mean(best_right), abs=0.01)
    assert row["guess_best_value_only"] == pytest.approx(np.mean(gains), abs=0.01)
    assert row["chance_max_high"] == pytest.approx(np.quantile(best_right, 0.975), abs=0.035)
    alone_row = guesses(n_choices, model_right, 1, 0)
    assert alone_row["chance_max"] == pytest.approx(alone_row["chance"], abs=0.01)


@pytest.mark.slow
def test_what_is_planted_is_more_than_the_best_guess(tmp_path: Path, scenes: Path) -> None:
    run = planted(tmp_path / "s.kv", scenes, set(range(12)), {0})
    result = kvtool.paired(run, "art-style")
    best = result.best
    assert best is not None
    assert best["value"] == 1.0
    assert best["value_p"] < 0.02
    assert best["value_only_p"] < 0.02
    assert best["better_p"] < 0.05
    assert best["n_blocks"] == 16
    assert_documented(result.to_json())
    text = "\n".join(sentences(result))
    assert "more questions right than the best of 16 guessing blocks" in text
    assert "The values answer more questions right than the model" in text
    draw(result)


@pytest.mark.slow
def test_noise_of_twelve_questions_is_no_better_than_chance(tmp_path: Path, scenes: Path) -> None:
    """A random tower: some block has most of 12 questions right, and a model that has few."""
    run = planted(tmp_path / "s.kv", scenes, {0, 1, 2, 3, 4, 5, 6}, {0, 7})
    result = kvtool.paired(run, "art-style", layers=[0, 1, 2, 3])
    best = result.best
    assert best is not None
    assert best["value_p"] > 0.05
    assert best["better_p"] > 0.05
    text = "\n".join(sentences(result))
    assert "no better than chance" in text
    assert "more questions right than the model" not in text
    out = StringIO()
    emit(result, "table", out)
    assert f"best of {best['n_blocks']} guessing" in out.getvalue()
    assert "value right, model wrong, by chance: one guessing block" in out.getvalue()


@pytest.mark.slow
def test_a_block_chosen_on_the_other_half_is_tested_alone(tmp_path: Path, scenes: Path) -> None:
    run = planted(tmp_path / "s.kv", scenes, set(range(12)), MODEL_RIGHT)
    best = kvtool.paired(run, "art-style", select="split").best
    assert best is not None
    assert (best["n_blocks"], best["n"], best["value"]) == (1, 6, 1.0)
    # Of six questions with two choices at most 20 orders differ.
    assert best["value_p"] >= 1 / 20 - 0.02
    assert best["chance_max"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.slow
def test_rows_have_the_guesses_too(tmp_path: Path, scenes: Path) -> None:
    run = planted(tmp_path / "s.kv", scenes, VALUE_RIGHT, MODEL_RIGHT)
    result: Result = kvtool.paired(run, "art-style")
    assert {row["n_blocks"] for row in result.rows} == {16}
    assert {row["chance_kind"] for row in result.rows} == {"guessing"}
    assert len({row["guess_best_value_only"] for row in result.rows}) == 1
