"""A browser, and a page of results opened in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from kvtool.pictures.thumbnails import Drawn
from kvtool.reporting import render
from kvtool.result import Result
from kvtool.types import Block
from tests.browser.opened import RED, Opened
from tests.support import studies
from tests.support.chromium import CHROMIUM


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
    block = Block(best["kind"], best["layer"], best["kv_head"])
    drawings = [Drawn("p1", f"a caption {studies.NASTY}", 64, 48)]
    study = studies.study(*results, pictures={"p1": RED}, examples={0: {block: drawings}})
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(render(study), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Browser, path: Path) -> Iterator[Opened]:
    """The page, all details unfolded; whatever a test does, nothing is to go wrong on it."""
    tab = Opened(browser, path, viewport={"width": 1100, "height": 900})
    for summary in tab.page.locator("details.fold > summary").all():
        summary.click()
    yield tab
    tab.page.wait_for_timeout(50)
    assert tab.trouble == []
    tab.page.close()
