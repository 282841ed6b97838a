"""README's picture of the page: `python -m tests.tools.pictures REPORT` makes it again.

REPORT is the page that `kvtool demo` writes. docs/figures/page.png is its first screen, 1280 pixels
wide; needs Chromium, as tests/browser does.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.support.chromium import CHROMIUM, NO_CHROMIUM
from tests.tools.source import ROOT

PICTURE = ROOT / "docs" / "figures" / "page.png"
SCREEN_WH_PX = (1280, 800)
COLORS = 256
"""Colors of the picture, which make its file a third as large."""


def first_screen(report: Path) -> Image.Image:
    """Return a page's first screen in light colors."""
    width, height = SCREEN_WH_PX
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        screen = page.screenshot()
        browser.close()
    return (
        Image.open(BytesIO(screen))
        .convert("RGB")
        .quantize(COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    )


def main(arguments: list[str]) -> int:
    """Write the picture of a page; the exit code is 2 without a page or a browser."""
    if len(arguments) != 1 or CHROMIUM is None:
        print(__doc__ if CHROMIUM else NO_CHROMIUM, file=sys.stderr)
        return 2
    first_screen(Path(arguments[0])).save(PICTURE, optimize=True)
    print(PICTURE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
