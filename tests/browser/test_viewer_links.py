"""A block that is chosen on the page says the command that opens it in the viewer."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from playwright.sync_api import Browser, Page
from typer.testing import CliRunner

import kvtool
from kvtool.cli.app import app
from kvtool.reporting import KeptResult, Study, render
from kvtool.store import Run
from kvtool.web.modules import sources
from tests.browser.opened import IN_A_BROWSER, Opened
from tests.support import studies
from tests.support.tasks import semantic_correspondence as spair
from tests.support.viewing import Viewing, served

pytestmark = IN_A_BROWSER

STORE = "it's pairs & $(touch x) <b>.kv"
HOSTILE = f"""it's "$(touch x)" `id` & <b>{studies.NASTY}; a+b%27\\' é"""
PARSER = sources()["state.js"].replace("export ", "")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = spair.make_run(tmp_path_factory.mktemp("linked"), STORE, kinds=("key", "value"))
    kvtool.probe(run, spair.TASK)
    kvtool.variance(run)
    return run


@pytest.fixture(scope="module")
def page_path(run: Run) -> Path:
    path = Path(run.store).parent / "page.html"
    kvtool.report(run.store, path, examples=0)
    return path


def command_of(page: Page, article: str, block: str) -> list[str]:
    """Choose a block by keyboard, and return the words of the command that it says."""
    for fold in page.locator(f"details:has(#{article}-block)").all():
        fold.evaluate("fold => { fold.open = true; }")
    page.focus(f'[data-article="{article}"] .cell[data-block="{block}"]')
    page.keyboard.press("Enter")
    return shlex.split(page.locator(f"#{article}-block pre code").inner_text())


def taken(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return what the command line hands to kvtool.serve."""
    with patch.object(kvtool, "serve") as serve:
        CliRunner().invoke(app, arguments)
    ((stores,), options) = serve.call_args
    return stores, options


def parsed(page: Page, fragment: str) -> dict[str, Any]:
    """Return what the viewer's own parser reads from a state."""
    parse = f"fragment => {{ {PARSER} return parseState(fragment); }}"
    state: dict[str, Any] = page.evaluate(parse, fragment)
    return state


def test_the_command_opens_the_block(
    browser: Browser, page_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tab = Opened(browser, page_path)
    words = command_of(tab.page, "r0", "value/2/1")
    # Of the store the page says the name alone.
    assert words[:3] == ["kvtool", "serve", STORE]
    assert str(page_path.parent) not in page_path.read_text(encoding="utf-8")
    assert tab.trouble == []
    tab.page.close()
    monkeypatch.chdir(page_path.parent)
    stores, options = taken(words[1:])
    with served(*stores, state=options["state"]) as viewer:
        viewing = Viewing(browser, *viewer.address.split("#"))
        expected = {"view": "heads", "run": run.name, "score": spair.TASK}
        expected |= {"kind": "value", "layer": "2", "kv_head": "1"}
        assert expected.items() <= viewing.state.items()
        assert not viewing.page.is_visible(".note")
        viewing.close()


def test_where_nothing_colors_the_heads_it_is_the_picture(
    browser: Browser, page_path: Path, run: Run
) -> None:
    tab = Opened(browser, page_path)
    words = command_of(tab.page, "r1", "key/3/0")
    _, options = taken(words[1:])
    expected = {"view": "picture", "run": run.name, "kind": "key", "layer": 3, "kv_head": 0}
    assert parsed(tab.page, options["state"]) == expected
    assert tab.trouble == []
    tab.page.close()


def test_hostile_names_stay_names(browser: Browser, tmp_path: Path) -> None:
    result = studies.probe_result()
    result.config["run"] = HOSTILE
    settings = ("split", "prefix", "images", "dtype", "revision", "view", "keys")
    info: dict[str, Any] = dict.fromkeys(settings, "x")
    info |= {"store": HOSTILE, "run": HOSTILE, "model": "m", "dataset": "d", "kinds": ["value"]}
    info |= {"vision_layers": [], "layers": []}
    study = Study("A study", "Made by a test.", (KeptResult(HOSTILE, result),), (info,))
    path = tmp_path / "page.html"
    path.write_text(render(study), encoding="utf-8")
    tab = Opened(browser, path)
    words = command_of(tab.page, "r0", "value/2/1")
    assert words[:4] == ["kvtool", "serve", HOSTILE, "--state"]
    assert len(words) == 5
    expected = {"view": "heads", "run": HOSTILE, "kind": "value", "layer": 2, "kv_head": 1}
    expected["score"] = spair.TASK
    assert parsed(tab.page, words[4]) == expected
    assert tab.trouble == []
    tab.page.close()


def test_the_command_is_copied_by_keyboard(browser: Browser, page_path: Path) -> None:
    tab = Opened(browser, page_path, permissions=["clipboard-read", "clipboard-write"])
    page = tab.page
    words = command_of(page, "r0", "value/2/1")
    button = page.locator("#r0-block pre button")
    assert button.count() == 1
    label = "Copy the command that opens this block in the viewer"
    assert button.get_attribute("aria-label") == label
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#r0-block pre button:text('Copied')").wait_for()
    assert shlex.split(page.evaluate("navigator.clipboard.readText()")) == words
    assert tab.trouble == []
    page.close()


def test_there_is_none_where_no_run_holds_the_block(browser: Browser, path: Path) -> None:
    """The store of that page has no run any more."""
    tab = Opened(browser, path)
    assert tab.page.locator(".block h4").count() == 2
    assert tab.page.locator(".block pre").count() == 0
    tab.page.close()
