"""Scores in the viewer's views, pairs as they open, and the keyboard alone, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from kvtool.store import Run, open_store
from kvtool.viewer.serve import RunningViewer
from tests.browser.opened import IN_A_BROWSER
from tests.support import sae_results
from tests.support.planted_probes import TASK, keep_usual_probe
from tests.support.tasks import semantic_correspondence as spair
from tests.support.viewing import Viewing, served

pytestmark = IN_A_BROWSER
FOCUSED = """() => {
  const node = document.activeElement;
  return node.getAttribute("aria-label") || node.textContent;
}"""
BELOW = "kind=value&layer=2&kv_head=0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    kinds = ("key", "value", "projected", "vision")
    run = spair.make_run(tmp_path_factory.mktemp("scores"), "pairs.kv", kinds=kinds)
    keep_usual_probe(run)
    spot = {"image": run.ids[0], "grid": [6, 8], "cells": [1], "activations": [1.0]}
    items = [
        {**sae_results.items(2)[0], **spot, "feature": number, "activation": activation}
        for number, activation in enumerate((2.0, 5.0, 3.0))
    ]
    items[1]["words"] = ["red", ",", "night"]
    record = {**sae_results.sae_result().to_json(), "items": items}
    record["config"] = {"run_hash": run.config.hash}
    open_store(run.store).save_result("sae", record)
    return run


@pytest.fixture(scope="module")
def running(run: Run) -> Iterator[RunningViewer]:
    with served(run.store) as viewer:
        yield viewer


@pytest.fixture
def viewing(browser: Browser, running: RunningViewer) -> Iterator[Viewing]:
    viewing = Viewing(browser, running.address, viewport={"width": 1200, "height": 800})
    yield viewing
    viewing.close()


def test_a_block_below_chance_says_so(viewing: Viewing) -> None:
    viewing.show(f"view=picture&{BELOW}")
    lines = viewing.page.inner_text(".probe").split("\n")
    assert lines[:3] == [
        f"{TASK} 3.0 [2.0, 4.0] %",
        "PCK · chance, random point: 4.5 %; this block is below it",
        "best: value, layer 3, head 1 10.7 [9.7, 11.7] %",
    ]
    viewing.page.click(".probe .link")
    viewing.settle()
    assert (viewing.state["layer"], viewing.state["kv_head"]) == ("3", "1")
    assert "below" not in viewing.page.inner_text(".probe")


def test_heads_are_labeled_in_percent_and_gray_below_chance(viewing: Viewing) -> None:
    viewing.show(f"view=heads&{BELOW}&score={TASK}")
    head = viewing.page.locator
    assert head(".head.best").get_attribute("aria-label") == "layer 3, head 1"
    assert head(".head.best .score").inner_text() == "10.7"
    below = head('.head[aria-label="layer 2, head 0"]')
    title = f"{TASK}: PCK 3.0 [2.0, 4.0] %, chance, random point: 4.5 %; this block is below"
    assert (below.get_attribute("title") or "").startswith(title)
    colors = [
        node.locator(".score").evaluate("node => node.style.background")
        for node in (below, head('.head[aria-label="layer 2, head 1"]'))
    ]
    assert colors[0] == ""
    assert colors[1].startswith("rgb(")
    legend = viewing.page.inner_text(".bar-line")
    for text in ("3.0 %", "10.7 %", "chance, random point: 4.5 %; gray: below it"):
        assert text in legend


def test_a_pair_opens_at_its_first_keypoint(viewing: Viewing, run: Run) -> None:
    viewing.show(f"image={run.ids[0]}&kind=value&layer=2&kv_head=0")
    assert "token" not in viewing.state
    viewing.press("3")
    assert viewing.state["keypoint"] == "0"
    right = viewing.page.locator(".stage:nth-child(2)")
    assert right.locator(".truth").count() == 1
    assert right.locator(".dot-mark").count() == spair.POINTS
    assert "keypoint 0: " in viewing.page.inner_text(".below .facts")
    chip = viewing.page.locator('.chip[aria-pressed="true"]')
    assert chip.inner_text()[2:] == "keypoint 0"
    # Another target begins at its own first keypoint.
    viewing.page.select_option('select[aria-label="Target"]', index=1)
    viewing.settle()
    assert viewing.state["keypoint"] == "0"
    # A patch that was chosen stays, as in a link to it.
    viewing.show(f"view=pair&image={run.ids[0]}&kind=value&layer=2&kv_head=0&token=0")
    assert viewing.state["token"] == "0"
    assert "keypoint" not in viewing.state
    viewing.page.reload()
    viewing.settle()
    assert viewing.state["token"] == "0"


def test_features_are_chosen_by_keys_the_strongest_first(viewing: Viewing, run: Run) -> None:
    viewing.show(f"view=features&image={run.ids[0]}")
    page = viewing.page
    numbers = page.locator(".feature .number").all_inner_texts()
    assert numbers == ["5.00", "3.00", "2.00"]
    assert "fires on “red”, “,”, “night”" in page.inner_text(".panel .facts")
    tab_to(viewing, "feature 2")
    page.keyboard.press("Enter")
    viewing.settle()
    # The list is another one by now, the focus is where it was.
    assert viewing.state["feature"].endswith(":2")
    assert "feature 2" in page.evaluate(FOCUSED)
    viewing.press("n")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    viewing.press("1")
    assert viewing.state["view"] == "picture"


def tab_to(viewing: Viewing, text: str) -> None:
    for _ in range(60):
        viewing.page.keyboard.press("Tab")
        if text in viewing.page.evaluate(FOCUSED):
            return
    raise AssertionError(f"Tab does not come to {text}")


def test_a_field_is_entered_and_left_by_keys(viewing: Viewing, run: Run) -> None:
    viewing.show(f"image={run.ids[0]}")
    page = viewing.page
    viewing.press("/")
    assert page.evaluate(FOCUSED) == "Filter pictures by name"
    page.keyboard.type("cat1i")
    assert page.locator(".item").count() == 4
    # Of the pictures Tab comes to one, and arrows go on from there.
    page.keyboard.press("Tab")
    names = [page.evaluate("document.activeElement.title")]
    page.keyboard.press("ArrowDown")
    names.append(page.evaluate("document.activeElement.title"))
    page.keyboard.press("Enter")
    viewing.settle()
    assert names == page.locator(".item .name").all_inner_texts()[:2]
    assert viewing.state["image"] == names[1]
    viewing.press("5", "/")
    assert page.evaluate(FOCUSED) == "Question"
    page.keyboard.type("3")
    viewing.press("Escape", "6")
    assert viewing.state["view"] == "video"


def test_names_break_behind_their_folder(viewing: Viewing, run: Run) -> None:
    pieces = viewing.page.locator(".item").first.locator(".name-piece").all_inner_texts()
    folder, _, name = run.ids[0].partition("/")
    assert pieces == [f"{folder}/", name]


def test_what_is_not_there_is_said_a_line_each(viewing: Viewing) -> None:
    viewing.show("image=nowhere&kind=odd")
    lines = viewing.page.inner_text(".note").split("\n")
    assert lines == ["There is no image nowhere here.", "There is no kind odd here."]


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_scores_fit(browser: Browser, running: RunningViewer, width: int, scheme: Any) -> None:
    options: Any = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    viewing = Viewing(browser, running.address, f"view=picture&{BELOW}", **options)
    for selector in (".probe", ".probe strong"):
        box = viewing.page.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
    viewing.close()
