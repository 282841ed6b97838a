"""Prefix conditions beside what knows nothing: in rows, table, figure and sentences."""

from __future__ import annotations

import io

import numpy as np
import pytest

import kvtool
from kvtool.experiments.probe.run import probe
from kvtool.reporting.emit import emit
from kvtool.reporting.sentences import sentences_of
from kvtool.result import Result
from kvtool.store import Store
from tests.experiments.prefix.rows import row_of
from tests.support.drawn import drawn, title
from tests.support.prefixes import TASK

LEVEL = ("chance", "chance_low", "chance_high", "chance_kind")


@pytest.mark.slow
def test_every_row_has_the_chance_of_a_probe(store: Store, result: Result) -> None:
    for row in result.rows:
        best = probe(store.run(row["run"]), TASK, kinds=["value"]).best
        assert best is not None
        for name in (*LEVEL, "chance_max", "chance_max_low", "chance_max_high"):
            assert row[name] == best[name], name
        assert row["chance_difference"] == row["pck_image"] - row["chance"]
    assert {row["predictor"] for row in result.chance} == {
        "random point",
        "random patch",
        "same place",
    }


@pytest.mark.slow
def test_planted_conditions_exceed_it_and_noise_does_not(store: Store, result: Result) -> None:
    assert row_of(result, "correct", "best")["exceeds_chance"] is True
    assert row_of(result, "random", "best")["exceeds_chance"] is False
    split = kvtool.prefix(store, TASK, select="split")
    assert row_of(split, "correct", "best")["exceeds_chance"] is True
    assert "chance_max" not in row_of(split, "correct", "best")


@pytest.mark.slow
def test_table_figure_and_page_say_it(result: Result) -> None:
    out = io.StringIO()
    emit(result, "table", out)
    text = " ".join(out.getvalue().split())
    chance = row_of(result, "none", "best")
    assert f"Chance, {chance['chance_kind']}: {100 * chance['chance']:.1f} [" in text
    assert "No better than chance: random" in text
    figure = drawn(result)
    assert f"dotted: chance ({chance['chance_kind']})" in " ".join(title(figure).split())
    scores, differences = figure.axes
    marks = [np.asarray(line.get_xdata()) for line in scores.lines]
    assert any(np.allclose(mark, chance["chance"]) for mark in marks if mark.size == 2)
    assert len(differences.lines) < len(scores.lines)
    assert any("No better than chance: random prefix." in line for line in sentences_of(result))
