"""The viewer in a real browser: what is under the pointer is what NumPy computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Route

import kvtool
from kvtool.store import Run
from kvtool.viewer.serve import RunningViewer
from tests.browser.opened import IN_A_BROWSER
from tests.support.tasks import semantic_correspondence as spair
from tests.support.units import PLANTED
from tests.support.viewing import Array, Viewing, cosines, gray_levels, served

pytestmark = IN_A_BROWSER
GRID = spair.GRID
STAGE = ".stage .frame"
FOCUSED = """() => {
  const node = document.activeElement;
  return node.getAttribute("aria-label") || node.textContent;
}"""
PLAIN = "range=full&colors=gray"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    kinds = ("key", "value", "projected", "vision")
    run = spair.make_run(tmp_path_factory.mktemp("viewer"), "pairs.kv", kinds=kinds)
    kvtool.probe(run, spair.TASK)
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


def test_the_hovered_map_is_numpys_cosine(viewing: Viewing, run: Run) -> None:
    image = run.ids[2]
    for block in (("value", *PLANTED), ("key", 2, 0), ("vision", run.config.vision_layers[0], 0)):
        kind, layer, head = block
        viewing.show(f"image={image}&kind={kind}&layer={layer}&kv_head={head}&{PLAIN}")
        for row, col in ((0, 0), (3, 5), (5, 7)):
            viewing.hover(STAGE, (row, col), GRID)
            pixels = viewing.map_pixels(".stage .map").astype(int)
            levels = gray_levels(cosines(run, block, image, 8 * row + col)).reshape(GRID)
            assert (pixels[:, :, 3] == 255).all()
            assert np.abs(pixels[:, :, 0] - levels).max() <= 1
            assert f"row {row}, column {col}" in viewing.page.inner_text(".panel .facts")


def test_the_map_goes_back_to_the_chosen_patch(viewing: Viewing, run: Run) -> None:
    viewing.show(f"image={run.ids[0]}&token=10&{PLAIN}")
    before = viewing.map_pixels(".stage .map")
    viewing.hover(STAGE, (4, 4), GRID)
    assert (viewing.map_pixels(".stage .map") != before).any()
    viewing.page.mouse.move(3, 3)
    assert (viewing.map_pixels(".stage .map") == before).all()
    viewing.hover(STAGE, (4, 4), GRID)
    viewing.page.mouse.down()
    viewing.page.mouse.up()
    viewing.settle()
    assert viewing.state["token"] == str(4 * GRID[1] + 4)


def test_all_heads_are_numpys_cosines(viewing: Viewing, run: Run) -> None:
    viewing.show(f"view=heads&image={run.ids[1]}&token=20&kind=value&{PLAIN}")
    viewing.hover(".side .stage .frame", (2, 6), GRID)
    for layer in run.layers:
        for head in run.kv_heads:
            name = f"layer {layer}, head {head}"
            pixels = viewing.map_pixels(f'.head[aria-label="{name}"] canvas')[:, :, 0].astype(int)
            levels = gray_levels(cosines(run, ("value", layer, head), run.ids[1], 22))
            assert np.abs(pixels - levels.reshape(GRID)).max() <= 1, name


def test_all_heads_are_shown_before_their_vectors_are_there(viewing: Viewing, run: Run) -> None:
    """The server computes the maps of the first patch: they are the same."""
    waiting: list[Route] = []
    page = viewing.page
    blocking = [True]
    page.route("**/get/block?*", lambda r: waiting.append(r) if blocking else r.continue_())
    state = f"view=heads&image={run.ids[1]}&token=20&kind=key&{PLAIN}"
    page.goto("about:blank")
    page.goto(f"{viewing.address}#{state}")
    page.wait_for_selector(".kvtool-viewer[data-shown=heads] .heads")
    names = [(layer, head) for layer in run.layers for head in run.kv_heads]

    def levels_of(layer: int, head: int) -> Array:
        canvas = f'.head[aria-label="layer {layer}, head {head}"] canvas'
        return viewing.map_pixels(canvas)[:, :, 0].astype(int)

    before = [levels_of(*name) for name in names]
    for name, levels in zip(names, before, strict=True):
        expected = gray_levels(cosines(run, ("key", *name), run.ids[1], 20)).reshape(GRID)
        assert np.abs(levels - expected).max() <= 1, name
    assert waiting
    blocking.clear()
    for route in waiting:
        route.continue_()
    viewing.settle()
    for name, levels in zip(names, before, strict=True):
        assert np.abs(levels - levels_of(*name)).max() <= 1, name


def test_heads_have_the_scores_of_the_kept_probe(viewing: Viewing, run: Run) -> None:
    viewing.show("view=heads&kind=value")
    best = viewing.page.locator(".head.best")
    assert best.get_attribute("aria-label") == "layer {}, head {}".format(*PLANTED)
    result = kvtool.probe(run, spair.TASK)
    assert result.best is not None
    score = result.best[result.metric]
    assert f"PCK {100 * score:.1f} [" in (best.get_attribute("title") or "")
    best.click()
    viewing.settle()
    assert (viewing.state["layer"], viewing.state["kv_head"]) == tuple(map(str, PLANTED))
    best.click()
    viewing.settle()
    assert viewing.state["view"] == "picture"


def test_a_pair_is_matched_as_the_probe_matches_it(viewing: Viewing, run: Run) -> None:
    layer, head = PLANTED
    parameters: dict[str, Any] = {"store": "pairs.kv", "run": run.name}
    record = viewing.page.request.get(f"{viewing.address}get/pairs", params=parameters).json()
    pair = record["pairs"][5]
    state = f"view=pair&image={pair['source']}&target={pair['target']}&kind=value"
    for block in ((layer, head), (2, 0)):
        viewing.show(f"{state}&layer={block[0]}&kv_head={block[1]}&keypoint=1&{PLAIN}")
        sample = run.image(pair["source"]).sample.base()
        target = run.image(pair["target"]).sample.base()
        right = 0
        for source_px, target_px in zip(pair["source_px"], pair["target_px"], strict=True):
            token = sample.token_at(*source_px)
            maps = cosines(run, ("value", *block), pair["source"], token, pair["target"])
            x, y = target.centre_px(*divmod(int(maps.argmax()), target.grid[1]))
            distance = np.hypot(x - target_px[0], y - target_px[1])
            right += bool(distance <= pair["radius_px"])
        expected = f"Keypoints: {right} of {spair.POINTS} within the circle"
        assert viewing.page.inner_text(".points h3") == expected
        token = sample.token_at(*pair["source_px"][1])
        assert viewing.state["token"] == str(token)
        maps = cosines(run, ("value", *block), pair["source"], token, pair["target"])
        pixels = viewing.map_pixels(".stage:nth-child(2) .map")[:, :, 0].astype(int)
        assert np.abs(pixels - gray_levels(maps).reshape(GRID)).max() <= 1
        circle = viewing.page.locator(".stage:nth-child(2) .truth")
        assert float(circle.get_attribute("r") or 0) == pytest.approx(pair["radius_px"])


def test_nearest_patches_are_shown_best_first(viewing: Viewing, run: Run) -> None:
    layer, head = PLANTED
    viewing.show(f"view=nearest&image={run.ids[0]}&kind=value&layer={layer}&kv_head={head}&token=9")
    pieces = viewing.page.locator(".piece")
    scores = [float(text) for text in pieces.locator(".number").all_inner_texts()]
    assert len(scores) == 48
    assert scores == sorted(scores, reverse=True)
    values, images = run.read("value", layer, head)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    everything = unit[images[0].stop :] @ unit[9]
    assert scores == pytest.approx(np.sort(everything)[::-1][:48], abs=6e-4)
    pieces.first.click()
    viewing.settle()
    assert viewing.state["image"] != run.ids[0]


def test_the_address_holds_the_state(viewing: Viewing, run: Run) -> None:
    state = (
        f"view=heads&store=pairs.kv&run={run.name}&image={run.ids[3]}&kind=key&layer=4&kv_head=1"
        f"&token=17&score={spair.TASK}&range=full&colors=gray"
    )
    viewing.show(state)
    expected = dict(member.split("=") for member in state.split("&"))
    assert viewing.state == expected
    viewing.page.reload()
    viewing.settle()
    assert viewing.state == expected
    assert viewing.page.locator('.tab[aria-current="page"]').inner_text() == "All heads"
    assert viewing.page.locator('.item[aria-current="true"]').get_attribute("title") == run.ids[3]
    viewing.press("1")
    assert viewing.state["view"] == "picture"
    viewing.page.go_back()
    viewing.settle()
    assert viewing.state == expected


def test_what_is_not_there_is_replaced_and_said(viewing: Viewing, run: Run) -> None:
    viewing.show("view=none&run=nowhere&image=<b>&kind=odd&layer=99&kv_head=7&token=999&range=x")
    assert viewing.state["run"] == run.name
    assert viewing.state["image"] == run.ids[0]
    note = viewing.page.inner_text(".note")
    for text in ("no run nowhere", "no image <b>", "no kind odd", "no layer 99", "no view none"):
        assert f"There is {text} here." in note


def test_keys_alone(viewing: Viewing, run: Run) -> None:
    viewing.show(f"image={run.ids[0]}&kind=value&layer=3&kv_head=0&token=9")
    viewing.press("ArrowRight", "ArrowDown", "]", ".", "n", "r", "c", "2")
    state = viewing.state
    assert (state["token"], state["layer"], state["kv_head"]) == (str(9 + 1 + GRID[1]), "4", "1")
    assert (state["image"], state["view"], state["range"]) == (run.ids[1], "heads", "full")
    assert state["colors"] == "gray"
    viewing.press("k", "[", ",", "p", "3")
    assert viewing.state["image"] == run.ids[0]
    assert viewing.state["kind"] != "value"
    viewing.press("?")
    assert viewing.page.locator("dialog").is_visible()
    viewing.page.keyboard.press("Escape")
    assert viewing.page.locator("dialog").is_hidden()
    # Everything can be reached by Tab.
    viewing.show("kind=value")
    names = set()
    for _ in range(30):
        viewing.page.keyboard.press("Tab")
        names.add(viewing.page.evaluate(FOCUSED))
    assert {"Run", "Picture", "Layer", "Filter pictures by name", run.ids[0]} <= names


@pytest.mark.parametrize("key", ["1", "2", "3", "4"])
def test_the_patch_of_every_view_is_moved_by_keys(viewing: Viewing, run: Run, key: str) -> None:
    viewing.show(f"image={run.ids[0]}&kind=value&layer=3&kv_head=0&token=9")
    viewing.press(key)
    page = viewing.page
    presses = 0
    while not page.evaluate('document.activeElement.matches("main .frame")'):
        page.keyboard.press("Tab")
        presses += 1
        assert presses < 80
    viewing.press("ArrowRight")
    assert viewing.state["token"] == "10"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')")
    # From there the other views are at hand.
    viewing.press("7", "1")
    assert viewing.state["view"] == "picture"


def test_a_filter_lists_what_fits(viewing: Viewing) -> None:
    viewing.page.fill(".rail input", "cat1i2")
    assert viewing.page.locator(".item .name").all_inner_texts() == ["cat1/cat1i2"]
    viewing.page.click(".item")
    viewing.settle()
    assert viewing.state["image"] == "cat1/cat1i2"


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_every_view_fits_and_nothing_goes_wrong(
    browser: Browser, running: RunningViewer, width: int, scheme: Any
) -> None:
    options: Any = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    viewing = Viewing(browser, running.address, **options)
    for key in "1234567":
        viewing.press(key)
        assert viewing.page.evaluate("document.documentElement.scrollWidth") == width
        assert viewing.page.evaluate("document.documentElement.scrollHeight") == 800
    paper = viewing.page.evaluate(
        "getComputedStyle(document.getElementById('viewer')).backgroundColor"
    )
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]
    viewing.close()


def test_a_script_that_got_in_would_not_run(viewing: Viewing) -> None:
    viewing.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'run'";
          document.body.append(script);
        }"""
    )
    assert viewing.page.title() == "kvtool: viewer"
    assert "Content Security Policy" in viewing.trouble.pop()


def test_pictures_that_are_gone_leave_the_map(browser: Browser, run: Run, tmp_path: Path) -> None:
    with served(run.store, data={"spair71k": tmp_path / "gone"}) as running:
        viewing = Viewing(browser, running.address, f"image={run.ids[0]}&token=4&{PLAIN}")
        assert "Without the picture" in viewing.page.inner_text("figcaption")
        assert viewing.page.locator(".frame.gone").count() == 1
        pixels = viewing.map_pixels(".stage .map")[:, :, 0].astype(int)
        block = ("value", int(viewing.state["layer"]), int(viewing.state["kv_head"]))
        levels = gray_levels(cosines(run, block, run.ids[0], 4)).reshape(GRID)
        assert np.abs(pixels - levels).max() <= 1
        viewing.press("4")
        assert viewing.page.locator(".piece").count() == 48
        viewing.close()
