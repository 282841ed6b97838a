"""docs/serve.md's table of the budget has the rows of the benchmark, and the tool replaces it."""

from __future__ import annotations

import pytest

from tests.bench.budget import PAGE, TABLE, table_of, written
from tests.bench.rows import row

ROWS = [
    row("viewer: hover, 19 in 20 / 16 ms", "ms", 1.26, 16.0, 1.0, "lower"),
    row("viewer: first paint / 500 ms", "ms", 612.0, 500.0, 1.0, "lower"),
    row("store: read / zarr", "MB/s", 2.0, 1.0, 1.0),
]


def test_the_page_has_the_table_of_some_rows() -> None:
    page = PAGE.read_text(encoding="utf-8")
    (table,) = TABLE.findall(page)
    for name in ("hover", "another head", "all heads", "nearest patches", "first paint"):
        assert f"\n| {name}" in table
    again = written(page, ROWS)
    assert "| hover, 19 in 20 | 1 | 16 |  |\n| first paint | 612 | 500 | missed |\n" in again
    assert "zarr" not in table_of(ROWS)
    assert again.replace(table_of(ROWS), table) == page


def test_without_figures_or_a_table_nothing_is_written() -> None:
    with pytest.raises(ValueError, match="no row of the viewer"):
        table_of(ROWS[2:])
    with pytest.raises(ValueError, match="found 0"):
        written("a page", ROWS)
