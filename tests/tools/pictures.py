"""README's pictures of page and viewer: `python -m tests.tools.pictures FOLDER` makes them again.

FOLDER is what `kvtool demo` writes. docs/figures/page.png is the first screen of its page,
docs/figures/viewer.png that of `kvtool serve` over its store, 1280 pixels wide; needs Chromium, as
tests/browser does.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import kvtool
from tests.support.chromium import CHROMIUM, NO_CHROMIUM
from tests.tools.source import ROOT

FIGURES = ROOT / "docs" / "figures"
PAGE, VIEWER = "page.png", "viewer.png"
STATE = "view=picture&run=demo-spair71k-test&kind=value&layer=0&kv_head=0"
"""What the viewer shows: the best block of the demo's semantic correspondence."""
SCREEN_WH_PX = (1280, 800)
COLORS = 256
"""Colors of the picture, which make its file a third as large."""


def first_screen(address: str, wait_for: str = "body") -> Image.Image:
    """Return the first screen of what is at an address in light colors.

    wait_for: what has to be there, as a selector.
    """
    width, height = SCREEN_WH_PX
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(address)
        page.wait_for_selector(wait_for)
        page.wait_for_load_state("networkidle")
        screen = page.screenshot()
        browser.close()
    return (
        Image.open(BytesIO(screen))
        .convert("RGB")
        .quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )


def viewer_screen(store: Path) -> Image.Image:
    """Return the viewer's first screen over a store."""
    run = kvtool.open(store).run("demo-spair71k-test").name
    running = kvtool.serve(store)
    try:
        state = STATE.replace("demo-spair71k-test", run)
        return first_screen(f"{running.address}#{state}", "canvas")
    finally:
        running.stop()


def main(arguments: list[str]) -> int:
    """Write the pictures of a demo; the exit code is 2 without one or without a browser."""
    if len(arguments) != 1 or CHROMIUM is None:
        print(__doc__ if CHROMIUM else NO_CHROMIUM, file=sys.stderr)
        return 2
    demo = Path(arguments[0])
    screens = {
        PAGE: first_screen((demo / "report.html").absolute().as_uri()),
        VIEWER: viewer_screen(demo / "study.kv"),
    }
    for name, screen in screens.items():
        screen.save(FIGURES / name, optimize=True)
        print(FIGURES / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
