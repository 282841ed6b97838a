"""Tables of results at 80 and at 60 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def table_of(rows: Sequence[tuple[str, ...]]) -> Table:
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


RUN = "demo_tower-spair71k-test-664fa925"


def test_a_cell_of_words_stays_a_line_where_its_name_can_give_way() -> None:
    numbers: tuple[str, ...] = ("15.6 [12.6, 18.5]", "15.3 [12.2, 18.2]", "9")
    rows = [("vision, layer 3", *numbers), (f"vision, layer 3, {RUN}", *numbers)]
    (line,) = (text for text in text_at(table_of(rows), 90).splitlines() if "layer 3, " in text)
    assert re.search(r"layer 3, demo_[\w-]*\.\.\.[\w-]*fa925", line)
    assert "15.3 [12.2, 18.2]" in line


def test_names_that_would_look_alike_go_on_in_the_next_line() -> None:
    numbers = ("15.6 [12.6, 18.5]", "15.3 [12.2, 18.2]", "9")
    names = [RUN.replace("spair71k", data_set) for data_set in ("spair71k", "refcocoX")]
    text = text_at(table_of([(f"vision, layer 3, {name}", *numbers) for name in names]), 80)
    assert all(name in text for name in names)


def test_a_row_of_two_lines_has_its_numbers_in_the_first() -> None:
    text = text_at(table_of([(f"{RUN}\nlayer 3", "1.0 [0.5, 1.5]", "2.0 [1.5, 2.5]", "9")]), 65)
    first, second = (line for line in text.splitlines() if "demo_" in line or "layer 3" in line)
    assert ELLIPSIS in first
    assert "2.0 [1.5, 2.5]" in first
    assert second.split() == ["layer", "3"]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (80, ["compare: pairs · a-run-of-a-store · n = 72"]),
        (40, ["compare: pairs · a-run-of-a-store", "n = 72"]),
        (20, ["compare: pairs", "a-run-of-a-store", "n = 72"]),
    ],
)
def test_a_headline_goes_on_between_two_parts(width: int, lines: list[str]) -> None:
    text = text_at(Text("compare: pairs · a-run-of-a-store · n = 72"), width)
    assert [line.rstrip() for line in text.splitlines()] == lines


def test_a_long_title_makes_no_lines_of_a_table() -> None:
    table = Table(title=Text("a title of some words " * 4), title_justify="left", min_width=90)
    table.add_column("a")
    table.add_row("1.0 [0.5, 1.5]")
    assert "a 1.0" not in text_at(table, 60)


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
