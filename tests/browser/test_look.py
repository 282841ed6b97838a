"""The report page on a phone, in the dark, on paper, and to those who do not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.opened import IN_A_BROWSER, Opened

pytestmark = IN_A_BROWSER

LIGHT, DARK = (255, 255, 255), (20, 24, 29)


def test_no_element_reaches_beyond_a_phone(browser: Browser, path: Path) -> None:
    tab = Opened(browser, path, viewport={"width": 390, "height": 800})
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    for fold in tab.page.locator("details").all():
        fold.evaluate("(fold) => { fold.open = true; }")
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
    assert not page.locator("[data-csv]:visible").count()
    assert page.locator("details.fold:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert corner(page, tmp_path / "dark.png") == DARK
    assert page.locator("details.fold[open]").count() == 0
    assert len(page.pdf()) > 20_000
    assert tab.trouble == []
    page.close()


def test_names_for_those_who_do_not_see(opened: Opened) -> None:
    page = opened.page
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("figure.chart > svg:not([aria-label])").count() == 0
    assert page.locator("figure.chart > svg[aria-label]").count() > 2
    for cell in page.locator(".cell").all()[:3]:
        assert "layer" in (cell.get_attribute("aria-label") or "")
    assert page.locator("article:not([aria-label])").count() == 0
