"""Tables of results at 80 and at 60 columns."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.table import Table
from rich.text import Text

from kvtool.display import ELLIPSIS
from kvtool.reporting.fitting import MapTable
from kvtool.result import Result
from tests.support.narrow import NUMBER, assert_fits, text_at
from tests.support.results import knockout
from tests.support.studies import probe_result

scores = st.floats(-99, 99).map(lambda value: f"{value:.1f} [{value:.1f}, {value:.1f}]")
words = st.text("abcdefgh_", min_size=1, max_size=50).map(lambda text: f"n{text}")
tables = st.lists(
    st.tuples(words, scores, scores, st.integers(0, 10**6).map(str)), min_size=1, max_size=4
)


def table_of(rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=Text("scores"), box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("block", "score", "difference", "n"):
        table.add_column(name)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


@given(rows=tables, width=st.sampled_from([40, 60, 80, 120]))
@pytest.mark.slow
def test_no_number_is_broken_and_no_name_folded(rows: list[tuple[str, ...]], width: int) -> None:
    text = text_at(table_of(rows), width)
    numbers = [number for row in rows for cell in row[1:3] for number in NUMBER.findall(cell)]
    assert sorted(NUMBER.findall(text)) == sorted(numbers)
    for name, *cells in rows:
        assert all(cell in text for cell in cells)
        # A name stands there whole, or without its middle.
        head, tail = name[:5], name[-5:]
        assert name in text or re.search(rf"{head}\w*{re.escape(ELLIPSIS)}\w*{tail}", text)


def test_a_long_name_loses_its_middle_where_that_is_enough() -> None:
    name = "value_of_" + "x" * 40 + "_head_3"
    text = text_at(table_of([(name, "1.0 [0.5, 1.5]", "2.0 [1.5, 2.5]", "9")]), 70)
    line = next(line for line in text.splitlines() if "1.0 [0.5, 1.5]" in line)
    assert "2.0 [1.5, 2.5]" in line
    assert ELLIPSIS in line
    assert "head_3" in line


def test_a_row_that_cannot_stand_on_a_line_becomes_several() -> None:
    lines = text_at(table_of([("a block", "1.0 [0.5, 1.5]", "2.0 [1.5, 2.5]", "9")]), 30)
    assert [line.rstrip() for line in lines.splitlines()] == [
        "scores",
        "a block",
        "    score 1.0 [0.5, 1.5]",
        "    difference 2.0 [1.5, 2.5]",
        "    n 9",
    ]


def test_a_map_has_a_narrow_form() -> None:
    table, narrow = MapTable("layer", "h0"), MapTable("layer", "heads")
    table.add_row("0", "1" * 50)
    narrow.add_row("0", "▒")
    table.narrow = narrow
    assert "▒" in text_at(table, 40)
    assert "▒" not in text_at(table, 80)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "result", [probe_result(), knockout(), knockout(("a", "b"))], ids=["probe", "files", "two"]
)
def test_results_fit(result: Result, width: int) -> None:
    assert_fits(result, width)
