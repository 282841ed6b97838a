"""Similarity maps on a page of results: the viewer's module and a block's vectors, from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator

import kvtool
from kvtool.reporting import gather, mapped
from kvtool.store import Run
from tests.browser.opened import IN_A_BROWSER, Opened
from tests.support.tasks import semantic_correspondence as spair
from tests.support.units import PLANTED
from tests.support.viewing import PIXELS, Array, cosines, gray_levels

pytestmark = IN_A_BROWSER
GRID = spair.GRID


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = spair.make_run(tmp_path_factory.mktemp("mapped"), "pairs.kv")
    kvtool.probe(run, spair.TASK)
    return run


@pytest.fixture(scope="module")
def page_path(run: Run) -> Path:
    path = Path(run.store).parent / "page.html"
    kvtool.report(run.store, path, examples=1, blocks=1)
    return path


@pytest.fixture
def opened(browser: Browser, page_path: Path) -> Iterator[Opened]:
    """The page with the details of its probe; it may ask nothing of anyone."""
    tab = Opened(browser, page_path, viewport={"width": 1100, "height": 900})
    tab.page.click("#r0 > summary")
    tab.page.wait_for_selector(".on-page .map")
    yield tab
    tab.page.wait_for_timeout(30)
    assert tab.trouble == []
    tab.page.close()


def levels_of(canvas: Locator) -> Array:
    """The level of each patch on a map in gray."""
    pixels = np.array(canvas.evaluate(PIXELS)).reshape(*GRID, 4)
    assert (pixels[:, :, 3] == 255).all()
    return np.asarray(pixels[:, :, 0])


def test_the_hovered_map_is_numpys_cosine(opened: Opened, run: Run) -> None:
    page = opened.page
    frame = page.locator(".on-page .frame")
    frame.focus()
    # From -1 to 1, in gray, as in the viewer.
    page.keyboard.press("r")
    page.keyboard.press("c")
    for number, image in enumerate(run.ids[: mapped.PICTURES]):
        page.locator(".on-page .choices button").nth(number).click()
        frame.scroll_into_view_if_needed()
        for row, col in ((0, 0), (3, 5), (5, 7)):
            box = frame.bounding_box()
            assert box is not None
            x = box["x"] + (col + 0.5) / GRID[1] * box["width"]
            page.mouse.move(x, box["y"] + (row + 0.5) / GRID[0] * box["height"])
            page.wait_for_selector(f".on-page .facts:has-text('row {row}, column {col}')")
            expected = cosines(run, ("value", *PLANTED), image, 8 * row + col)
            levels = levels_of(page.locator(".on-page .map"))
            assert np.abs(levels - gray_levels(expected).reshape(GRID)).max() <= 1
    assert page.locator(".on-page img").evaluate("image => image.naturalWidth") > 0


def test_keys_move_the_patch(opened: Opened) -> None:
    page, facts = opened.page, opened.page.locator(".on-page .facts")
    row, col = GRID[0] // 2, GRID[1] // 2
    assert facts.inner_text().startswith(f"row {row}, column {col}")
    page.focus(".on-page .frame")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(f".on-page .facts:has-text('row {row + 1}, column {col + 1}')")


def test_another_block_has_no_map(opened: Opened) -> None:
    layer, head = PLANTED
    weaker = f"value/{layer - 1}/{head}"
    opened.page.click(f'#r0 .cell[data-block="{weaker}"]')
    assert opened.page.locator(".on-page").count() == 0


def test_what_has_no_room_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "VECTOR_BYTES", 3000)
    path = Path(run.store).parent / "small.html"
    page = kvtool.report(run.store, path, examples=1, blocks=1)
    (note,) = page.notes
    assert note.startswith("1 picture without a similarity map")
