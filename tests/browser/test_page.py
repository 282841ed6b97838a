"""The report page in a real browser: opened from disk, hovered, clicked, driven by keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from kvtool.reporting.numbers import interval
from kvtool.result import Result, is_summary
from tests.browser.opened import IN_A_BROWSER, RED, Opened, block_of
from tests.support import studies

pytestmark = IN_A_BROWSER


def summaries(result: Result) -> list[dict[str, Any]]:
    return [row for row in result.rows if is_summary(row) and row["kind"] == "value"]


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
        assert told.removesuffix(", best") == f"{cell}: {interval(results[0], row)}, n = 60"
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


def test_models_share_a_panel_and_have_folds_of_their_own(browser: Browser, path: Path) -> None:
    page = Opened(browser, path).page
    panel = page.locator("#p0")
    # Both curves on one pair of axes, and chance and baselines once.
    assert panel.locator("> figure g path.line:not(.level)").count() == 2
    assert panel.locator("> figure .legend li").all_inner_texts()[:2] == [
        "model, value, n = 60",
        "second, value, n = 60",
    ]
    assert [panel.locator(f"#r{index} > summary").inner_text() for index in (0, 1)] == [
        "model",
        "second",
    ]
    for index in (0, 1):
        assert page.is_hidden(f"#r{index}-block h4")
        panel.locator(f"#r{index} > summary").click()
        assert page.is_visible(f"#r{index}-block h4")
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


def test_questions_that_the_values_know(opened: Opened, results: list[Result]) -> None:
    cards = opened.page.locator(".question")
    assert cards.count() == 3
    terms = cards.first.locator("dt").all_inner_texts()
    item = next(result for result in results if result.command == "paired").items[0]
    assert dict(zip(terms, cards.first.locator("dd").all_inner_texts(), strict=True)) == {
        "right": item["label"],
        "values": item["value"],
        "model": item["answer"],
        "question": item["id"],
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
