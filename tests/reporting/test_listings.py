"""Rows on a terminal: no number is broken, no name folded, and nothing is wider than the line."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.display import ELLIPSIS, without_middle
from kvtool.reporting.listings import print_rows, record
from kvtool.screen import widen

names = st.text("abcdefgh-_0123456789", min_size=1, max_size=60).map(lambda text: f"n{text}")
rows_of_runs = st.lists(
    st.fixed_dictionaries(
        {
            "run": names,
            "images": st.integers(0, 10**9),
            "score": st.floats(-1, 1).map(lambda value: f"{value:.3f} [{value:.3f}, {value:.3f}]"),
            "settings": st.lists(names, min_size=1, max_size=3).map(lambda words: ", ".join(words)),
        }
    ),
    min_size=2,
    max_size=5,
)


def printed(rows: list[dict[str, Any]], width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    stream = StringIO()
    print_rows(rows, "runs", stream)
    return stream.getvalue().splitlines()


@given(rows=rows_of_runs, width=st.sampled_from([60, 80, 120]))
@pytest.mark.slow
def test_numbers_stay_whole_and_lines_fit(rows: list[dict[str, Any]], width: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        lines = printed(rows, width, monkeypatch)
    text = "\n".join(lines)
    for row in rows:
        assert re.search(rf"(?<![\d.]){row['images']}(?![\d.])", text)
        assert row["score"] in text
    # Rows as lines are as long as their values; a table is never wider than the terminal.
    if "─" in text:
        assert max(map(len, lines)) <= width


def test_a_name_loses_its_middle_and_is_never_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"run": f"llava_onevision-spair71k-test-{n:08x}", "images": n, "x": "a b"} for n in (1, 2)
    ]
    lines = printed(rows, 40, monkeypatch)
    cut = [line.split()[0] for line in lines if ELLIPSIS in line]
    assert len(cut) == 2
    for name, row in zip(cut, rows, strict=True):
        head, tail = name.split(ELLIPSIS)
        assert str(row["run"]).startswith(head)
        assert str(row["run"]).endswith(tail)
        assert len(head) > 3
        assert len(tail) > 3


def test_wide_shows_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"run": "r" * 90, "images": n} for n in (1, 2)]
    widen()
    try:
        assert "r" * 90 in "\n".join(printed(rows, 60, monkeypatch))
    finally:
        widen(False)
    assert "r" * 90 not in "\n".join(printed(rows, 60, monkeypatch))


def test_columns_that_cannot_stand_side_by_side_become_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{f"count_{n}": 123_456_789 for n in range(9)}] * 2
    lines = printed(rows, 60, monkeypatch)
    assert lines[1] == "count 0: 123456789"
    assert sum("123456789" in line for line in lines) == 18


def test_a_record_is_lines_of_names_and_values() -> None:
    row = {"run": "a", "bytes_written": 2_500_000, "nothing": None, "kinds": ["key", "value"]}
    assert record(row) == "run:           a\nbytes written: 2.5 MB\nkinds:         key, value\n"


@given(text=names, width=st.integers(3, 80))
def test_what_is_left_of_a_name_is_its_ends(text: str, width: int) -> None:
    short = without_middle(text, width)
    assert len(short) <= width
    head, _, tail = short.partition(ELLIPSIS)
    assert text.startswith(head)
    assert text.endswith(tail)
