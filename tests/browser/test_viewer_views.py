"""The viewer's videos, questions and features in a real browser, hostile names, and the widget."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

import kvtool
from kvtool.store import Run, open_store
from kvtool.viewer.questions import Questions, parse_blocked
from kvtool.viewer.vectors import vectors_reply
from kvtool.web.modules import NOTEBOOK, joined_module
from tests.browser.opened import IN_A_BROWSER
from tests.support import sae_results
from tests.support.datasets import picture
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.units import PLANTED, noise, sample, write_run
from tests.support.viewing import PIXELS, Viewing, cosines, gray_levels, served

pytestmark = IN_A_BROWSER
PLAIN = "range=full&colors=gray"
NASTY = "\"><img src=x onerror=alert(1)>&'#%2e%2e;\u202e.png"
"""A file's name may hold anything but a slash."""


def test_a_track_is_the_nearest_patch_of_each_frame(browser: Browser, tmp_path: Path) -> None:
    run = davis.make_run(tmp_path)
    layer, head = PLANTED
    token = davis.GRID[1] + 1
    state = f"view=video&image=two/00000&kind=value&layer={layer}&kv_head={head}&token={token}"
    with served(run.store) as running:
        viewing = Viewing(browser, running.address, f"{state}&{PLAIN}")
        frames = [f"two/{number:05d}" for number in range(davis.FRAMES)]
        centers = [run.image(frames[0]).sample.base().centre_px(*divmod(token, davis.GRID[1]))]
        for number, frame in enumerate(frames[1:]):
            maps = cosines(run, ("value", layer, head), frames[0], token, frame)
            canvas = viewing.page.locator(".frames .map").nth(number)
            pixels = np.array(canvas.evaluate(PIXELS)).reshape(-1, 4)[:, 0]
            assert np.abs(pixels - gray_levels(maps)).max() <= 1
            cell = divmod(int(maps.argmax()), davis.GRID[1])
            centers.append(run.image(frame).sample.base().centre_px(*cell))
        points = viewing.page.locator("polyline.track").get_attribute("points") or ""
        track = [tuple(map(float, point.split(","))) for point in points.split()]
        # Of patches that are equally near, float32 may take another one than float64.
        assert track[0] == centers[0]
        hits = [point == center for point, center in zip(track, centers, strict=True)]
        assert sum(hits) >= len(hits) - 1
        viewing.close()


class Scripted(Questions):
    """Answers "yes", and "no" with a head blocked; layer 1, query head 3 looks at token 9 alone."""

    def answer(self, _: Any, request: Any) -> dict[str, Any]:
        heads = parse_blocked(request.text("blocked", ""))
        return {"answer": "no" if heads else "yes", "blocked": heads}

    def attention(self, *_: Any) -> Any:
        maps = np.full((8, 4, 48), 0.001, np.float32)
        maps[1, 3] = 0
        maps[1, 3, 9] = 0.25
        return vectors_reply(maps, "float32")


def test_a_question_and_what_blocked_heads_change(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvtool.viewer.questions.Questions", Scripted)
    run = spair.make_run(tmp_path, kinds=("key", "value"))
    with served(run.store, model="planted") as running:
        viewing = Viewing(browser, running.address, "view=question&colors=gray")
        page = viewing.page
        assert page.locator(".head:visible").count() == 0
        page.fill(".ask input", "is it there?")
        page.keyboard.press("Enter")
        viewing.settle()
        assert viewing.state["question"] == "is it there?"
        assert page.locator(".answer strong").all_inner_texts() == ["yes"]
        page.click('.head[aria-label="layer 1, q 3"]')
        viewing.settle()
        levels = viewing.map_pixels(".side .map")[:, :, 0].reshape(-1)
        assert levels[9] == 255
        assert np.delete(levels, 9).max() == 0
        assert "25.0 % of its attention" in page.inner_text(".side .facts")
        # Query heads 2 and 3 share KV head 1.
        page.click("text=Block KV head 1 of layer 1")
        viewing.settle()
        assert viewing.state["blocked"] == "1:1"
        assert page.locator(".answer strong").all_inner_texts() == ["yes", "no"]
        blocked = page.locator(".head.blocked").all()
        names = [head.get_attribute("aria-label") for head in blocked]
        assert names == ["layer 1, q 2", "layer 1, q 3"]
        page.reload()
        viewing.settle()
        assert page.locator(".answer strong").all_inner_texts() == ["yes", "no"]
        page.click("text=Unblock all")
        viewing.settle()
        assert "blocked" not in viewing.state
        viewing.close()


def test_without_a_model_the_page_says_how_to_name_it(browser: Browser, tmp_path: Path) -> None:
    run = spair.make_run(tmp_path, kinds=("key", "value"))
    with served(run.store) as running:
        viewing = Viewing(browser, running.address, "view=question&question=what")
        assert "kvtool serve STORE --model planted" in viewing.page.inner_text(".notice")
        viewing.close()


def test_features_lie_where_they_fire(browser: Browser, tmp_path: Path) -> None:
    run = spair.make_run(tmp_path)
    item = sae_results.items(2)[0]
    cells, activations = [3, 10], [2.0, 4.0]
    spot = {"image": run.ids[1], "grid": [6, 8], "cells": cells, "activations": activations}
    record = {**item, **spot, "activation": 4.0, "description": spair.TASK}
    result = sae_results.sae_result().to_json()
    config = {"run_hash": run.config.hash}
    open_store(run.store).save_result("sae", {**result, "items": [record], "config": config})
    with served(run.store) as running:
        viewing = Viewing(browser, running.address, "view=features&colors=gray")
        # The first picture has none: a button leads to the one that has.
        viewing.page.click(f"main >> text={run.ids[1]}")
        viewing.settle()
        pixels = viewing.map_pixels(".stage .map").reshape(-1, 4)
        assert pixels[cells, 0].tolist() == [128, 255]
        assert pixels[cells, 3].tolist() == [255, 255]
        assert np.delete(pixels, cells, axis=0)[:, 3].max() == 0
        assert spair.TASK in viewing.page.inner_text(".panel .facts")
        viewing.close()


@pytest.fixture
def hostile(tmp_path: Path) -> Run:
    """A folder of pictures with names that would do harm as markup, addresses or paths."""
    for number, name in enumerate((NASTY, "plain.png")):
        picture(tmp_path / "data" / name, 80, 60, number)
    samples = [sample(name, i, (80, 60), (6, 8)) for i, name in enumerate((NASTY, "plain.png"))]
    return write_run(tmp_path / "s.kv", "folder", "", tmp_path / "data", samples, noise(1))


def test_a_hostile_name_stays_text(browser: Browser, hostile: Run) -> None:
    with served(hostile.store) as running:
        viewing = Viewing(browser, running.address)
        assert viewing.page.locator(".item .name").first.inner_text().strip() == NASTY
        for view in "1234567":
            viewing.press(view)
            assert viewing.state["image"] == NASTY
        viewing.press("1")
        assert viewing.page.locator(".frame.gone").count() == 0
        assert viewing.page.locator("img[src=x]").count() == 0
        viewing.page.reload()
        viewing.settle()
        assert viewing.state["image"] == NASTY
        assert viewing.page.inner_text(".note") == ""
        viewing.close()


NOTEBOOK_PAGE = """<!doctype html><title>notebook</title><div id="cell"></div><script type="module">
import widget from "./widget.js";
const listeners = {};
const values = { state: "view=picture&token=9&range=full&colors=gray", height: 600 };
window.model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; },
  save_changes: () => {},
  on: (name, listener) => { (listeners[name] ??= []).push(listener); },
  send: async (message) => {
    const [answer, body] = JSON.parse(await window.kernel(JSON.stringify(message)));
    const bytes = Uint8Array.from(atob(body ?? ""), (character) => character.charCodeAt(0));
    for (const listener of listeners["msg:custom"]) listener(answer, [new DataView(bytes.buffer)]);
  },
  change: (name, value) => {
    values[name] = value;
    listeners[`change:${name}`].forEach((listener) => listener());
  },
};
widget.render({ model: window.model, el: document.getElementById("cell") });
</script>"""


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[str]:
    """The address of a page that loads the widget's module, as a notebook does."""
    folder = tmp_path / "notebook"
    folder.mkdir()
    (folder / "widget.js").write_text(joined_module(NOTEBOOK))
    (folder / "index.html").write_text(NOTEBOOK_PAGE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_widget_shows_the_same_map(browser: Browser, tmp_path: Path, notebook: str) -> None:
    run = spair.make_run(tmp_path, "pairs.kv")
    widget = kvtool.widget(run)
    answers: list[Any] = []
    widget.send = lambda message, buffers=(): answers.append((message, *buffers))

    def kernel(text: str) -> str:
        widget._handle_custom_msg(json.loads(text), [])
        message, *buffers = answers.pop()
        body = base64.b64encode(buffers[0]).decode() if buffers else None
        return json.dumps([message, body])

    page = browser.new_page()
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.expose_function("kernel", kernel)
    page.goto(notebook)
    page.wait_for_selector(".kvtool-viewer[data-shown=picture]")
    state = page.evaluate("Object.fromEntries(new URLSearchParams(model.get('state')))")
    assert (state["run"], state["token"]) == (run.name, "9")
    pixels = np.array(page.locator(".stage .map").evaluate(PIXELS)).reshape(-1, 4)[:, 0]
    block = ("value", int(state["layer"]), int(state["kv_head"]))
    assert np.abs(pixels - gray_levels(cosines(run, block, run.ids[0], 9))).max() <= 1
    page.evaluate("model.change('state', 'view=heads')")
    page.wait_for_selector(".kvtool-viewer[data-shown=heads]")
    # Keys are heard on, though the view that had the focus is not there any more.
    page.focus(".kvtool-viewer .frame")
    for key, view in (("1", "picture"), ("2", "heads")):
        page.keyboard.press(key)
        page.wait_for_selector(f".kvtool-viewer[data-shown={view}]")
    assert trouble == []
    page.close()
