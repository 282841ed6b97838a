"""The page of a whole demo as a browser lays it out: its length, and what must fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from kvtool.reporting import render
from tests.browser.opened import IN_A_BROWSER, Opened
from tests.support.demo_page import demo_study

pytestmark = IN_A_BROWSER

SCREENS = 12
N_PANELS = 30
OVERFLOWING = """(cells) => cells.filter((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getBoundingClientRect().width > cell.clientWidth;
}).map((cell) => cell.innerText)"""
CUT = """(texts) => texts.filter((text) => {
  const inner = text.getBoundingClientRect();
  const outer = text.closest("svg").getBoundingClientRect();
  return inner.width && (inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
}).map((text) => text.textContent)"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("demo") / "page.html"
    file.write_text(render(demo_study()), encoding="utf-8")
    return file


@pytest.fixture(params=[(1280, 720), (390, 844)], ids=["wide", "narrow"])
def tab(browser: Browser, path: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    width, height = request.param
    opened = Opened(browser, path, viewport={"width": width, "height": height})
    yield opened
    assert opened.trouble == []
    opened.page.close()


def test_the_demos_page_is_twelve_screens(browser: Browser, path: Path) -> None:
    page = Opened(browser, path, viewport={"width": 1280, "height": 720}).page
    assert page.locator(".panel").count() == N_PANELS
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height <= SCREENS * 720
    page.close()


def test_numbers_fit_their_cells(tab: Opened) -> None:
    cells = tab.page.locator(".panel > figure .cell")
    assert cells.count() >= 20
    assert cells.evaluate_all(OVERFLOWING) == []


def test_no_word_of_a_chart_is_cut(tab: Opened) -> None:
    texts = tab.page.locator(".chart svg text")
    assert texts.count() > 50
    assert texts.evaluate_all(CUT) == []
