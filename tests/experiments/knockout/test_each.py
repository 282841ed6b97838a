"""Every head alone in one pass: against one knockout a head, a planted head, and null
simulations.
"""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.asking.benchmarks import own_benchmark
from kvtool.asking.conditions import AnswerSheet
from kvtool.asking.margin_scores import margin_p
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.experiments.knockout.each import head_rows
from kvtool.reporting.emit import emit
from kvtool.reporting.plots import plot
from kvtool.result import Result
from tests.experiments.knockout.asked import OPTIONS, by_condition
from tests.support.planted import NOISY

HEADS = [(layer, head) for layer in range(6) for head in range(4)]


@pytest.fixture(scope="module")
def result(store: Path, pope: Path) -> Result:
    return kvtool.knockout(store, f"pope:{pope}", each_head=True)


@pytest.mark.slow
def test_changes_equal_one_knockout_a_head(result: Result, store: Path, pope: Path) -> None:
    assert [(row["layer"], row["kv_head"]) for row in result.rows] == HEADS
    for head in ((0, 0), (4, 1), (5, 2), (2, 3)):
        rows = by_condition(kvtool.knockout(store, f"pope:{pope}", [head], **OPTIONS))
        row = result.rows[HEADS.index(head)]
        assert row["accuracy"] == rows["chosen"]["accuracy"]
        assert row["accuracy_change"] == rows["chosen"]["accuracy"] - rows["none"]["accuracy"]
        for name in ("n_lost", "n_gained", "mcnemar_p", "n_pictures"):
            assert row[name] == rows["chosen"][name]
    assert (result.n, result.n_skipped, result.config["none"]["accuracy"]) == (48, 0, 0.5)


@pytest.mark.slow
def test_a_planted_head_stands_out(result: Result) -> None:
    rows = {(row["layer"], row["kv_head"]): row for row in result.rows}
    changed = {head for head, row in rows.items() if abs(row["margin_change"]) > 1e-6}
    assert changed
    assert changed <= NOISY | {(0, 0)}
    for head, row in rows.items():
        before = result.config["none"]["margin"]
        assert row["margin"] == pytest.approx(before + row["margin_change"])
        # Of eight pictures all of one sign: 2 of 256 ways, times 24 heads.
        assert row["margin_holm_p"] == (24 * 2 / 256 if head in changed else 1.0)


@pytest.mark.slow
def test_scores_equal_sums_over_questions_and_nothing_is_found_in_noise() -> None:
    """Eight heads that change nothing but by chance: one of them is called sure in 5 % of studies
    at most, though three questions share each picture's noise.
    """
    questions = [
        Question(str(n), (f"p{n // 3}",), f"is it {n}", f"is it {n}", ("yes", "no")[n % 2], "a")
        for n in range(36)
    ]
    sheet = AnswerSheet(own_benchmark("own"), questions, {}, 0)
    heads = HEADS[:8]
    n_false = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        before = rng.normal(size=(36, 1)) + 1
        shared = np.repeat(rng.normal(size=(12, 8)), 3, axis=0)
        changes = shared + 0.2 * rng.normal(size=(36, 8))
        p = [margin_p(changes[:, head], sheet.pictures) for head in range(8)]
        n_false += min(p) * 8 < 0.05
    assert n_false <= 7  # more has a chance of 2 %
    rows = head_rows(np.hstack([before, before + changes]), heads, sheet)
    for row, change in zip(rows, changes.T, strict=True):
        assert row["margin_change"] == pytest.approx(change.mean())
        assert row["margin_change_low"] < row["margin_change"] < row["margin_change_high"]
        after = before[:, 0] + change
        assert row["accuracy"] == (after > 0).mean()
        assert row["n_gained"] == ((before[:, 0] <= 0) & (after > 0)).sum()
        assert row["margin_holm_p"] >= row["margin_p"]


@pytest.mark.slow
def test_the_second_time_nothing_is_asked(
    result: Result, store: Path, pope: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("kvtool.models.single_heads.single_head_logits")
    assert kvtool.knockout(store, f"pope:{pope}", each_head=True).rows == result.rows
    # Another seed scores again what is stored, image by image.
    again = kvtool.knockout(store, f"pope:{pope}", each_head=True, seed=1)
    assert [row["margin"] for row in again.rows] == [row["margin"] for row in result.rows]


@pytest.mark.slow
def test_only_the_layers_that_are_meant(store: Path, pope: Path) -> None:
    late = kvtool.knockout(store, f"pope:{pope}", each_head=True, layers="late", limit=2)
    assert [(row["layer"], row["kv_head"]) for row in late.rows] == HEADS[16:]
    assert late.n == 12


@pytest.mark.slow
def test_table_figure_and_page(
    result: Result, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(result, "table")
    printed = capsys.readouterr().out
    assert "12 of 24 heads, each blocked alone" in printed
    assert max(map(len, printed.splitlines())) <= 80
    plot(result, tmp_path / "each.png")
    assert (tmp_path / "each.png").stat().st_size > 1000
    kvtool.report(store, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "No head alone, of 24, changes" in page
    assert "accuracy_change" in page
    assert "--each" in page


@pytest.mark.slow
def test_attention_that_the_store_holds_stands_beside(
    result: Result, store: Path, pope: Path, tmp_path: Path
) -> None:
    """Measured after every head alone, it is there when that is asked again, and on the page."""
    copied = Path(copytree(store, tmp_path / "s.kv"))
    kvtool.attend(copied, question="is there a cat", limit=2)
    again = kvtool.knockout(copied, f"pope:{pope}", each_head=True)
    assert [row["margin"] for row in again.rows] == [row["margin"] for row in result.rows]
    assert all(0 < row["mass"] < 1 for row in again.rows)
    assert [row["q_head"] for row in again.config["q_heads"]] == [*range(8)] * 6
    kvtool.report(copied, tmp_path / "page.html")
    assert "Query heads, and the change by blocking" in (tmp_path / "page.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "expected --heads or --each, found neither"),
        ({"heads": "0:1", "each_head": True}, "--each: expected no --heads beside it"),
        ({"controls": ["random"], "each_head": True}, "--each: expected no --controls beside it"),
        ({"threshold": 2.0, "each_head": True}, "--each: expected no --threshold beside it"),
        ({"draws": 3, "each_head": True}, "--each: expected no --draws beside it"),
        ({"max_new_tokens": 4, "each_head": True}, "expected no --max-new-tokens beside it"),
    ],
)
def test_what_does_not_go_together_is_refused(
    store: Path, pope: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        kvtool.knockout(store, f"pope:{pope}", **options)
