"""Every head alone beside attention and probes of the same heads: on planted numbers, and where
nothing is related.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from kvtool.experiments.knockout.each_beside import beside
from kvtool.experiments.knockout.each_shown import sentences
from kvtool.reporting.emit import emit
from kvtool.reporting.plots import plot
from kvtool.result import Result, Row
from kvtool.stats.rank_relations import permuted_rank_p, rank_correlations

LAYERS, KV_HEADS = 6, 4
HEADS = list(product(range(LAYERS), range(KV_HEADS)))
CONFIG = {"model": "tiny", "revision": None, "prefix": "none", "run": "r", "dataset": "pope"}


def each_result(changes: np.ndarray) -> Result:
    """Every head alone, with these changes of the margin."""
    rows: list[Row] = []
    for (layer, head), change in zip(HEADS, changes.tolist(), strict=True):
        row: Row = {"layer": layer, "kv_head": head, "n": 48, "n_lost": 0, "n_gained": 1}
        for name in ("margin_change", "accuracy_change", "margin", "accuracy"):
            row |= {name: change, f"{name}_low": change - 0.1, f"{name}_high": change + 0.1}
        tests = ("margin_p", "mcnemar_p", "margin_holm_p", "mcnemar_holm_p")
        rows.append(row | dict.fromkeys(tests, 0.5))
    none = {name: rows[0][name] for name in rows[0] if name.startswith(("margin", "accuracy"))}
    config = CONFIG | {"each": True, "none": none, "seed": 0, "notes": []}
    return Result("knockout", "pope", "margin_change", 48, rows, config=config, unit="nats")


def attention_of(masses: np.ndarray, **config: str) -> Result:
    """Attention of two query heads to each KV head, 0.1 above and below these masses."""
    rows: list[Row] = []
    for (layer, head), mass in zip(HEADS, masses.tolist(), strict=True):
        for number, offset in enumerate((0.1, -0.1)):
            q_head = 2 * head + number
            row = {"layer": layer, "q_head": q_head, "kv_head": head, "mass": mass + offset}
            rows.append(row | {"n": 9})
    return Result("attend", None, "mass", 9, rows, config=CONFIG | config)


def probe_of(scores: np.ndarray, n: int = 5) -> Result:
    """A probe of values, and of keys that know everything; the last layer is not probed."""
    rows: list[Row] = []
    for (layer, head), score in zip(HEADS[:-KV_HEADS], scores.tolist(), strict=False):
        block = {"layer": layer, "kv_head": head, "n": 5}
        rows += [{"kind": "value", **block, "pck": score}, {"kind": "key", **block, "pck": 1.0}]
        rows.append({"kind": "value", **block, "pck": 0.0, "category": "cat"})
    return Result("probe", "semantic-correspondence", "pck", n, rows, config=CONFIG)


@pytest.fixture
def study() -> Result:
    """Heads of much attention hold the margin up; what values know has nothing to do with it."""
    rng = np.random.default_rng(0)
    masses = rng.permutation(np.linspace(0.2, 0.8, len(HEADS)))
    results = [
        attention_of(masses),
        attention_of(1 - masses, model="another"),
        attention_of(1 - masses, prefix="text"),
        replace(attention_of(masses), task="sinks"),
        probe_of(np.zeros(len(HEADS)), n=2),
        probe_of(rng.random(len(HEADS))),
    ]
    return beside(each_result(0.5 - masses + 0.05 * rng.normal(size=len(HEADS))), results)


def test_measures_of_the_same_heads_stand_beside_the_changes(study: Result) -> None:
    assert [source["measure"] for source in study.config["beside"]] == [
        "mass",
        "semantic-correspondence",
    ]
    assert study.config["beside"][1]["n"] == 5  # of two probes the one of more
    by_head = {(row["layer"], row["kv_head"]): row for row in study.rows}
    for row in study.config["q_heads"]:
        head = by_head[row["layer"], row["kv_head"]]
        assert row["kv_head"] == row["q_head"] // 2
        assert row["margin_change"] == head["margin_change"]
        assert abs(row["mass"] - head["mass"]) == pytest.approx(0.1)
    assert len(study.config["q_heads"]) == 2 * len(HEADS)
    assert 0 < by_head[0, 0]["semantic-correspondence"] < 1
    assert by_head[LAYERS - 1, 0]["semantic-correspondence"] is None


def test_a_planted_relation_is_found_and_no_other(study: Result) -> None:
    mass, probe = study.config["correlations"]
    expected = spearmanr(*np.array([[row["margin_change"], row["mass"]] for row in study.rows]).T)
    assert mass["rho"] == pytest.approx(expected.statistic)
    assert mass["rho_low"] < mass["rho"] < mass["rho_high"] < -0.5
    assert (mass["p"], mass["n"], probe["n"]) == (1 / 2000, 24, 20)
    assert mass["holm_p"] == 2 * mass["p"]
    assert probe["holm_p"] > 0.05
    text = " ".join(sentences(study))
    assert "The higher a head's attention on the picture, the more blocking it lowers" in text
    assert "No relation of the change with heads' semantic-correspondence" in text


def test_heads_that_change_answers_are_counted_among_those_that_were_named() -> None:
    """Two heads change the margin, one of them answers too; three others change answers alone."""
    result = each_result(np.linspace(0.1, 0.3, len(HEADS)))
    for index, row in enumerate(result.rows):
        row["margin_holm_p"] = 0.01 if index < 2 else 0.5
        row["mcnemar_holm_p"] = 0.01 if 1 <= index < 5 else 0.5
    text = " ".join(sentences(result))
    assert f"2 of {len(HEADS)} heads change the answers' margin" in text
    assert "1 of them changes which answers are right" in text


@pytest.mark.slow
def test_p_equals_scipys_and_finds_nothing_in_noise() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 12))
    y += 0.5 * x

    def rho(numbers: np.ndarray) -> float:
        return float(spearmanr(numbers, y).statistic)

    test = permutation_test((x,), rho, permutation_type="pairings", n_resamples=999, rng=2)
    assert permuted_rank_p(x, y, seed=0) == pytest.approx(test.pvalue, abs=0.05)
    p = [permuted_rank_p(rng.normal(size=24), rng.normal(size=24), seed) for seed in range(100)]
    assert np.mean(np.array(p) < 0.05) <= 0.1  # more has a chance of 1 %
    assert 0.35 < np.mean(p) < 0.65


def test_few_heads_have_every_order_and_too_few_no_coefficient() -> None:
    rows = [{"change": n, "mass": n**2} for n in range(5)]
    (row,) = rank_correlations(rows, "change", ["mass", "pck"], seed=0)
    assert (row["rho"], row["p"], row["rho_low"]) == (1.0, 2 / 120, None)
    assert rank_correlations(rows[:3], "change", ["mass"], seed=0) == []


@pytest.mark.slow
def test_it_is_shown(study: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emit(study, "table")
    printed = capsys.readouterr().out
    assert "change of the margin with" in printed
    assert max(map(len, printed.splitlines())) <= 80
    plot(study, tmp_path / "each.png")
    plot(each_result(np.zeros(len(HEADS))), tmp_path / "alone.png")
    assert (tmp_path / "each.png").stat().st_size > (tmp_path / "alone.png").stat().st_size
