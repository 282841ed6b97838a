"""Tables of the report page saved as CSV by a real browser."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Download, Page

from kvtool.result import Result
from tests.browser.opened import IN_A_BROWSER, Opened, block_of
from tests.support import studies

pytestmark = IN_A_BROWSER


def rows_of(download: Download) -> list[dict[str, str]]:
    with Path(download.path()).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def as_text(value: Any) -> Any:
    """A value as a CSV cell, numbers apart."""
    if value is None:
        return ""
    return value if isinstance(value, float | int) and not isinstance(value, bool) else str(value)


def assert_same(lines: list[dict[str, str]], rows: list[dict[str, Any]]) -> None:
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        for name, cell in line.items():
            value = as_text(row.get(name))
            assert (cell if isinstance(value, str) else float(cell)) == value, name
        assert row.keys() <= line.keys()


def download(page: Page, selector: str) -> Download:
    with page.expect_download() as transfer:
        page.locator(selector).first.click()
    page.wait_for_timeout(120)  # Chromium drops what comes faster than ten downloads a second
    return transfer.value


def test_csv_files_are_the_rows(opened: Opened, results: list[Result]) -> None:
    for position, result in enumerate(results):
        button = f"#r{position} [data-csv]:has-text('All rows')"
        file = download(opened.page, button)
        assert file.suggested_filename == f"{opened.page.get_attribute(button, 'data-csv')}.csv"
        assert_same(rows_of(file), list(result.flat_rows()))
    best = results[0].best or {}
    file = download(opened.page, "#r0-block [data-csv]")
    expected = [
        row
        for row in results[0].flat_rows()
        if row["kind"] == "value" and block_of(row) == block_of(best)
    ]
    assert_same(rows_of(file), expected)
    per_layer = "#r0 figure:has-text('Best block of each layer') [data-csv]"
    assert_same(rows_of(download(opened.page, per_layer)), results[0].per_layer)
    questions = rows_of(download(opened.page, "[data-csv]:has-text('All questions')"))
    assert [json.loads(line["images"]) for line in questions] == [["im0"], ["im1"], ["im2"]]
    assert {line["answer"] for line in questions} == {studies.NASTY}


def test_every_table_has_its_csv(opened: Opened) -> None:
    for details in opened.page.locator("details").all():
        details.evaluate("(one) => { one.open = true; }")
    tables, names = (
        opened.page.locator("figure.table"),
        set(opened.page.evaluate("Object.keys(data.tables)")),
    )
    assert tables.count() > 12
    for table in tables.all():
        assert table.locator("[data-csv]").get_attribute("data-csv") in names
