"""Which test the table of conditions prints."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from kvtool.experiments.knockout.table import tables
from kvtool.result import Result, Row


def printed(n_pictures: int, files: list[str]) -> str:
    """The table of a knockout that asks ten questions, at 80 columns."""
    scores = {"f1": 0.5, "f1_low": 0.4, "f1_high": 0.6, "yes_ratio": 0.5}
    counts = {"n_heads": 2, "n_pictures": n_pictures, "n_distinct": 10}
    tests = {"mcnemar_p": 0.111, "mcnemar_holm_p": 0.222}
    tests |= {"picture_p": 0.333, "picture_holm_p": 0.444}
    rows: list[Row] = []
    for condition, row_tests in (("none", {}), ("chosen", tests)):
        row = {"condition": condition, **counts, **scores, **row_tests}
        rows += [row, *({**row, "file": name} for name in files)]
    result = Result("knockout", None, "f1", 10, rows)
    console = Console(file=StringIO(), width=80)
    for table in tables(result):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "..." not in text
    assert "…" not in text
    return str(text)


@pytest.mark.parametrize(
    ("n_pictures", "files", "printed_p", "absent_p"),
    [
        (10, ["random", "popular", "adversarial"], ("0.111", "0.222"), ("0.333", "0.444")),
        (5, ["random", "popular", "adversarial"], ("0.333", "0.444"), ("0.111", "0.222")),
        (5, ["existence", "position"], ("0.333", "0.444"), ("0.111", "0.222")),
        (5, [], ("0.333", "0.444", "0.111", "McNemar"), ("0.222",)),
    ],
)
def test_the_test_that_knows_shared_pictures_comes_first(
    n_pictures: int,
    files: list[str],
    printed_p: tuple[str, ...],
    absent_p: tuple[str, ...],
) -> None:
    text = printed(n_pictures, files)
    assert all(number in text for number in printed_p)
    assert not any(number in text for number in absent_p)
    assert ("p by picture" in text) == (n_pictures < 10)


def test_results_of_before_have_mcnemars_alone() -> None:
    rows: list[Row] = [
        {"condition": "none", "n_heads": 0, "f1": 0.5, "f1_low": 0.4, "f1_high": 0.6},
        {"condition": "chosen", "n_heads": 1, "f1": 0.5, "f1_low": 0.4, "f1_high": 0.6}
        | {"mcnemar_p": 0.111},
    ]
    console = Console(file=StringIO(), width=80)
    for table in tables(Result("knockout", None, "f1", 10, rows)):
        console.print(table)
    assert "0.111" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("metric", "unit"), [("f1", "%"), ("score", "points")])
def test_mmes_score_is_no_percentage(metric: str, unit: str) -> None:
    rows: list[Row] = [{"condition": "none", "n_heads": 0, metric: 1.5}]
    console = Console(file=StringIO(), width=80)
    for table in tables(Result("knockout", "mme", metric, 10, rows, unit="percent")):
        console.print(table)
    assert f"; {unit}, 95 % interval" in console.file.getvalue()  # type: ignore[attr-defined]
