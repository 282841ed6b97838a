"""A viewer that is served, opened in Chromium, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page

import kvtool
from kvtool.store import Run
from kvtool.viewer.serve import RunningViewer

Array = np.ndarray[Any, Any]
PIXELS = """canvas => {
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return Array.from(context.getImageData(0, 0, width, height).data);
}"""


@contextmanager
def served(*stores: Any, **options: Any) -> Iterator[RunningViewer]:
    """A viewer of some stores while the block runs."""
    running = kvtool.serve(list(stores), **options)
    try:
        yield running
    finally:
        running.stop()


class Viewing:
    """A page of the viewer, and what went wrong on it: console messages, errors, dialogs, requests
    of other servers.
    """

    def __init__(self, browser: Browser, address: str, state: str = "", **options: Any) -> None:
        self.address = address
        self.page: Page = browser.new_page(**options)
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self._requested(request.url))
        self.show(state)

    def _requested(self, url: str) -> None:
        if not url.startswith((self.address, "blob:")):
            self.trouble.append(f"request {url}")

    def show(self, state: str) -> None:
        """Open the page at a state, from nothing."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}#{state}")
        self.settle()

    def settle(self) -> None:
        """Return when the view that the state names is whole, and the address tells it."""
        self.page.wait_for_function(
            """() => {
              const root = document.getElementById("viewer");
              return root.dataset.shown && root.viewer.isSettled;
            }"""
        )
        self.page.wait_for_timeout(150)

    @property
    def state(self) -> dict[str, str]:
        """The state in the address."""
        members = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        state: dict[str, str] = self.page.evaluate(members)
        return state

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def map_pixels(self, selector: str) -> Array:
        """The (row, col, 4) pixels of a map: one for each patch."""
        canvas = self.page.locator(selector)
        size = canvas.evaluate("canvas => [canvas.height, canvas.width]")
        return np.array(canvas.evaluate(PIXELS), np.uint8).reshape(*size, 4)

    def hover(self, selector: str, cell: tuple[int, int], grid: tuple[int, int]) -> None:
        """Bring the pointer on a cell of a picture that its grid covers."""
        box = self.page.locator(selector).bounding_box()
        assert box is not None
        x = box["x"] + (cell[1] + 0.5) / grid[1] * box["width"]
        y = box["y"] + (cell[0] + 0.5) / grid[0] * box["height"]
        self.page.mouse.move(x, y)

    def close(self) -> None:
        """Close the page; nothing may have gone wrong."""
        self.page.wait_for_timeout(30)
        assert self.trouble == []
        self.page.close()


def cosines(
    run: Run, block: tuple[str, int, int], image: str, token: int, target: str = ""
) -> Array:
    """The cosine of a patch with each patch of an image, in double precision."""
    kind: Any = block[0]

    def unit(name: str) -> Array:
        vectors = run.read(kind, *block[1:], [name]).values.astype(np.float64)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    return np.asarray(unit(target or image) @ unit(image)[token])


def gray_levels(map_values: Array) -> Array:
    """The level, 0 to 255, of cosines from -1 to 1."""
    return np.round(255 * (map_values + 1) / 2)
