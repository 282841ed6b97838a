"""The report page in a real browser: opened from disk, hovered, clicked, driven by keys, printed,
saved as CSV.

Needs Chromium (apt-get install chromium), found on the path or named by $CHROMIUM; without one
these tests are skipped.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Download, Page, sync_playwright

from kvtool.pictures.thumbnails import Drawn
from kvtool.reporting import render
from kvtool.reporting.numbers import interval
from kvtool.result import Result, is_summary
from tests.support import studies

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
NO_CHROMIUM = "no chromium: apt-get install chromium, or set CHROMIUM"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]

RED = (
    "data:image/svg+xml;base64,"
    "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHdpZHRoPSI4IiBoZWlnaHQ9IjgiLz4="
)
LIGHT, DARK = (255, 255, 255), (20, 24, 29)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return studies.every_result()


@pytest.fixture(scope="module")
def path(results: list[Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    best = results[0].best or {}
    block = (best["kind"], best["layer"], best["kv_head"])
    drawings = [Drawn("p1", f"a caption {studies.NASTY}", 64, 48)]
    study = studies.study(*results, pictures={"p1": RED}, examples={0: {block: drawings}})
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(render(study), encoding="utf-8")
    return file


class Opened:
    """A page and what went wrong on it: console messages, errors, dialogs, requests but for itself
    and data URIs.
    """

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.page: Page = browser.new_page(**options)
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self._asked(request.url, path))
        self.page.goto(path.as_uri())

    def _asked(self, url: str, path: Path) -> None:
        if url != path.as_uri() and not url.startswith(("data:", "blob:")):
            self.trouble.append(f"request {url}")


@pytest.fixture
def opened(browser: Browser, path: Path) -> Iterator[Opened]:
    """The page, all articles unfolded; whatever a test does, nothing is to go wrong on it."""
    tab = Opened(browser, path, viewport={"width": 1100, "height": 900})
    for summary in tab.page.locator("details.more > summary").all():
        summary.click()
    yield tab
    tab.page.wait_for_timeout(50)
    assert tab.trouble == []
    tab.page.close()


def block_of(row: dict[str, Any]) -> str:
    return "{kind}/{layer}/{kv_head}".format(**row)


def summaries(result: Result) -> list[dict[str, Any]]:
    return [row for row in result.rows if is_summary(row) and row["kind"] == "value"]


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


def test_it_opens_and_the_numbers_are_the_results(opened: Opened, results: list[Result]) -> None:
    data = opened.page.evaluate("data")
    tables = [
        name
        for name in data["tables"]
        if any(name == block["rows"] for block in data["blocks"].values())
    ]
    assert len(tables) == 3
    for result, name in zip(results[:3], tables, strict=True):
        rows = opened.page.evaluate("(name) => rowsOf(name)", name)
        expected = json.loads(json.dumps(list(result.flat_rows())))
        records = [{key: value for key, value in row.items() if value is not None} for row in rows]
        assert records == [
            {key: value for key, value in row.items() if value is not None} for row in expected
        ]


def test_hover_tells_score_interval_and_n(opened: Opened, results: list[Result]) -> None:
    for row in summaries(results[0])[:3]:
        opened.page.hover(f'#r0 .cell[data-block="{block_of(row)}"]')
        told = opened.page.inner_text("#tip")
        cell = f"value, layer {row['layer']}, head {row['kv_head']}"
        assert told == f"{cell}: {interval(results[0], row)}, n = 60"
        opened.page.mouse.move(0, 0)
        assert opened.page.is_hidden("#tip")


def test_the_best_block_is_shown_and_a_click_shows_another(
    opened: Opened, results: list[Result]
) -> None:
    page, result = opened.page, results[0]
    best = result.best or {}
    panel = page.locator("#r0-block")
    assert (
        panel.locator("h4").inner_text()
        == f"value, layer {best['layer']}, head {best['kv_head']}: the best block"
    )
    picture = panel.locator("img")
    assert picture.get_attribute("src") == RED
    assert picture.get_attribute("alt") == f"a caption {studies.NASTY}"
    second = next(row for row in summaries(result) if block_of(row) != block_of(best))
    page.click(f'#r0 .cell[data-block="{block_of(second)}"]')
    assert (
        panel.locator("h4").inner_text()
        == f"value, layer {second['layer']}, head {second['kv_head']}"
    )
    lines = panel.locator("tbody tr").all_inner_texts()
    block_rows = [row for row in result.rows if block_of(row) == block_of(second)]
    assert [line.split("\t")[0] for line in lines] == ["all", "cat", studies.NASTY]
    for line, row in zip(lines, block_rows, strict=True):
        assert line.split("\t")[1:] == [
            interval(result, row, m) for m in ("pck_image", "pck_point")
        ] + ["60"]
    assert panel.locator("img").count() == 0
    assert block_of(best) in panel.inner_text()
    assert page.locator('#r0 .cell[aria-pressed="true"]').get_attribute("data-block") == block_of(
        second
    )
    assert page.locator("#r1-block h4").inner_text().endswith("the best block")


def test_further_models_are_folded_under_their_first_sentence(browser: Browser, path: Path) -> None:
    page = Opened(browser, path).page
    assert page.is_visible("#r0-block h4")
    assert page.is_hidden("#r1-block h4")
    summary = page.locator("details.more > summary").first
    assert "scores" in summary.inner_text()
    summary.click()
    assert page.is_visible("#r1-block h4")
    page.close()


def test_keys_move_and_choose(opened: Opened) -> None:
    page = opened.page
    page.focus('#r0 .cell[data-block="value/0/0"]')
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.dataset.block") == "value/2/1"
    assert page.is_visible("#tip")
    page.keyboard.press("Escape")
    assert page.is_hidden("#tip")
    page.keyboard.press("Enter")
    assert page.inner_text("#r0-block h4").startswith("value, layer 2, head 1")
    assert page.locator('#r0 .cell[tabindex="0"]').count() == 1


def download(page: Page, selector: str) -> Download:
    with page.expect_download() as transfer:
        page.locator(selector).first.click()
    page.wait_for_timeout(120)  # Chromium drops what comes faster than ten downloads a second
    return transfer.value


def test_csv_files_are_the_rows(opened: Opened, results: list[Result]) -> None:
    for position, result in enumerate(results):
        button = f"#r{position} .csv:has-text('All rows')"
        file = download(opened.page, button)
        assert file.suggested_filename == f"{opened.page.get_attribute(button, 'data-csv')}.csv"
        assert_same(rows_of(file), list(result.flat_rows()))
    best = results[0].best or {}
    file = download(opened.page, "#r0-block .csv")
    expected = [
        row
        for row in results[0].flat_rows()
        if row["kind"] == "value" and block_of(row) == block_of(best)
    ]
    assert_same(rows_of(file), expected)
    opened.page.click("#r0 summary")
    assert_same(rows_of(download(opened.page, "#r0 details .csv")), results[0].per_layer)
    questions = rows_of(download(opened.page, ".csv:has-text('All questions')"))
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
        assert table.locator(".csv").get_attribute("data-csv") in names


def test_questions_that_the_values_know(opened: Opened, results: list[Result]) -> None:
    cards = opened.page.locator(".question")
    assert cards.count() == 3
    terms = cards.first.locator("dt").all_inner_texts()
    item = next(result for result in results if result.command == "paired").items[0]
    assert dict(zip(terms, cards.first.locator("dd").all_inner_texts(), strict=True)) == {
        "right": item["label"],
        "values": item["value"],
        "model": item["answer"],
    }


def test_a_caption_stays_text(opened: Opened) -> None:
    page = opened.page
    assert page.locator("script").count() == 2
    assert studies.NASTY in page.inner_text("#r0-block")
    assert page.get_by_text(studies.NASTY).count() > 3


def test_a_script_that_got_in_would_not_run(browser: Browser, path: Path, tmp_path: Path) -> None:
    """The policy allows the page's own script alone."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        path.read_text(encoding="utf-8").replace("<main", f"{studies.NASTY}<main", 1),
        encoding="utf-8",
    )
    tab = Opened(browser, bad)
    assert len(tab.trouble) == 1
    assert "Content Security Policy" in tab.trouble[0]
    tab.page.close()


def test_no_element_reaches_beyond_a_phone(browser: Browser, path: Path) -> None:
    tab = Opened(browser, path, viewport={"width": 390, "height": 800})
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.trouble == []
    tab.page.close()


def corner(page: Page, file: Path) -> tuple[int, ...]:
    page.screenshot(path=file)
    with Image.open(file) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
        return tuple(np.asarray(picture.convert("RGB"))[2, 2].tolist())


def test_light_dark_and_paper(browser: Browser, path: Path, tmp_path: Path) -> None:
    tab = Opened(browser, path, color_scheme="dark")
    page = tab.page
    assert corner(page, tmp_path / "dark.png") == DARK
    page.click("#theme")
    assert corner(page, tmp_path / "light.png") == LIGHT
    page.click("#theme")
    assert corner(page, tmp_path / "dark.png") == DARK
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert corner(page, tmp_path / "print.png") == LIGHT
    assert page.is_hidden("nav")
    assert not page.locator(".csv:visible").count()
    assert page.locator("article details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert corner(page, tmp_path / "dark.png") == DARK
    assert page.locator("article details[open]").count() == 0
    assert len(page.pdf()) > 20_000
    assert tab.trouble == []
    page.close()


def test_names_for_those_who_do_not_see(opened: Opened) -> None:
    page = opened.page
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("figure.chart svg[viewBox='0 0 720 280']:not([aria-label])").count() == 0
    for cell in page.locator(".cell").all()[:3]:
        assert "layer" in (cell.get_attribute("aria-label") or "")
    assert page.locator("article:not([aria-labelledby])").count() == 0
