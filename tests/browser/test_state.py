"""What a reader changes on the page: sorted tables, links to its state, copies, enlarged pictures,
the outline."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, FloatRect, Page

from tests.browser.opened import IN_A_BROWSER, RED, Opened

pytestmark = IN_A_BROWSER

LAYERS_TABLE = "#r0 figure:has-text('Best block of each layer') table"


def column(page: Page, index: int) -> list[float]:
    """Return the numbers that begin the cells of a column, in the order of the rows."""
    cells = page.locator(f"{LAYERS_TABLE} tbody tr > :nth-child({index + 1})").all_inner_texts()
    return [float(cell.split()[0]) for cell in cells]


def test_a_table_is_sorted_up_down_and_back(opened: Opened) -> None:
    page = opened.page
    initial = column(page, 2)
    assert initial != sorted(initial)
    head = page.locator(f"{LAYERS_TABLE} thead th").nth(2)
    for direction, order in (
        ("ascending", sorted(initial)),
        ("descending", sorted(initial, reverse=True)),
        (None, initial),
    ):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == direction
        assert column(page, 2) == order


def box(page: Page, selector: str) -> FloatRect:
    """Return where an element that is visible lies."""
    rectangle = page.locator(selector).bounding_box()
    assert rectangle is not None, selector
    return rectangle


def change(page: Page) -> None:
    """Open a fold, choose a block and sort a table."""
    page.click("#r0 > summary")
    page.click('#r0 .cell[data-block="value/3/1"]')
    page.locator(f"{LAYERS_TABLE} thead button").nth(2).click()


def state(page: Page) -> list[object]:
    """Return what change has changed."""
    folds = page.locator("details[open][id]").evaluate_all("(folds) => folds.map((f) => f.id)")
    block = page.locator("#r0-block h4").inner_text()
    return [folds, block, column(page, 2)]


@pytest.mark.parametrize("is_reloaded", [False, True])
def test_a_link_has_the_whole_state(is_reloaded: bool, browser: Browser, path: Path) -> None:
    first = Opened(browser, path)
    change(first.page)
    # Where a fold opens is told a moment later.
    first.page.wait_for_url(lambda url: "open=r0" in url)
    link = first.page.url
    expected = state(first.page)
    assert expected[0] == ["r0"]
    assert str(expected[1]).startswith("value, layer 3, head 1")
    second = Opened(browser, path)
    second.page.goto(link)
    if is_reloaded:
        second.page.reload()
    assert state(second.page) == expected
    assert second.page.url == link
    assert first.trouble == second.trouble == []
    first.page.close()
    second.page.close()


def test_a_link_into_a_fold_opens_it(browser: Browser, path: Path) -> None:
    tab = Opened(browser, path)
    tab.page.goto(f"{path.as_uri()}#r1-block")
    assert tab.page.is_visible("#r1-block")
    assert tab.page.is_hidden("#r0-block")
    for link in ("#nothing", "#open=nothing", "#r0&block=r0:value/99/9&sort=x:1:up", "#&&%zz"):
        tab.page.goto(path.as_uri() + link)
    assert tab.trouble == []
    tab.page.close()


def test_a_picture_enlarges_and_closes_by_keyboard(opened: Opened) -> None:
    page = opened.page
    dialog = page.locator("#viewer")
    page.focus("#r0-block .zoom")
    assert dialog.is_hidden()
    page.keyboard.press("Enter")
    assert dialog.is_visible()
    assert dialog.locator("img").get_attribute("src") == RED
    assert box(page, "#viewer img")["width"] > 2 * box(page, "#r0-block img")["width"]
    caption = dialog.locator("figcaption").inner_text()
    assert caption == page.locator("#r0-block img").get_attribute("alt")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert page.evaluate("document.activeElement.className") == "zoom"


def test_links_commands_and_tables_are_copied(browser: Browser, path: Path) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    tab = Opened(browser, path, permissions=permissions)
    page = tab.page

    def copied() -> str:
        page.get_by_text("Copied").first.wait_for()
        return str(page.evaluate("navigator.clipboard.readText()"))

    page.goto(f"{path.as_uri()}#m-r0&open=commands,m-r0,r0")
    page.locator("#m-r0 pre .copy").first.click()
    assert copied().startswith("kvtool probe s.kv semantic-correspondence")
    page.locator("#p0 h3 .copy").click()
    page.locator("#p0 h3 .copy:text('Copied')").wait_for()
    assert copied() == f"{path.as_uri()}#p0&open=r0,commands,m-r0"
    page.locator(f"{LAYERS_TABLE} >> xpath=../.. >> .copy").click()
    page.locator("#r0 .tools .copy:text('Copied')").wait_for()
    lines = copied().split("\n")
    assert len(lines) == 5
    assert lines[1].split("\t")[0].startswith("value, layer 0")
    assert tab.trouble == []
    page.close()


def test_the_outline_leads_and_follows(browser: Browser, path: Path) -> None:
    tab = Opened(browser, path, viewport={"width": 1280, "height": 800})
    page = tab.page
    current = page.locator("nav a[aria-current]")
    assert current.inner_text() == "Summary"
    page.click("nav a[href='#keys']")
    page.locator("nav a[href='#keys'][aria-current]").wait_for()
    assert -2 < box(page, "#keys")["y"] < 60
    # The entries of the section that is read are open, the others are not.
    assert page.is_visible("nav a:has-text('Knockout')")
    assert page.is_hidden("nav a:has-text('Prefixes:')")
    assert tab.trouble == []
    page.close()


def test_the_page_is_short_before_folds_are_opened(browser: Browser, path: Path) -> None:
    """A panel takes half a row of at most 600 px; twice as many results are no longer summary."""
    tab = Opened(browser, path, viewport={"width": 1280, "height": 800})
    n_panels = tab.page.locator(".panel").count()
    n_sections = tab.page.locator("section").count()
    height = tab.page.evaluate("document.documentElement.scrollHeight")
    assert n_panels == 7
    assert height < 800 + 300 * n_panels + 350 * n_sections
    # The first screen has what was found, the scores of each task, and the way to all results.
    for part in (".headlines li:last-child", ".scores tbody tr:first-child", "nav a[href='#made']"):
        rectangle = box(tab.page, part)
        assert rectangle["y"] + rectangle["height"] <= 800, part
    tab.page.close()
