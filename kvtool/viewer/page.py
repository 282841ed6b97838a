"""The files of the server's page."""

from __future__ import annotations

from kvtool.web.modules import PAGE, joined_module, sources


def page_files() -> dict[str, bytes]:
    """Return what a browser may load, by name, read once: a request never names a path."""
    texts = {name: text for name, text in sources().items() if not name.endswith(".js")}
    return {name: text.encode() for name, text in texts.items()} | {
        "viewer.js": joined_module(PAGE).encode()
    }
