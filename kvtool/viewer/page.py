"""The files of the page, and its modules as one for a notebook."""

from __future__ import annotations

import re
from importlib.resources import files

MODULES = (
    *("dom.js", "state.js", "cosine.js", "colors.js", "source.js", "stage.js", "panel.js"),
    *("picture_view.js", "head_grid.js", "heads_view.js", "pair_view.js", "nearest_view.js"),
    *("question_view.js", "video_view.js", "features_view.js", "rail.js", "controls.js"),
    "viewer.js",
)
"""The modules that the page and the notebook share, each behind those that it imports."""
PAGE, NOTEBOOK = "start.js", "notebook.js"
"""What begins in either."""
_IMPORT = re.compile(r'^import [^;]+ from "\./[^"]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def sources() -> dict[str, str]:
    """Return the files of the page as they lie in the package, by name."""
    folder = files("kvtool.viewer") / "static"
    return {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.is_file()}


def joined_module(last: str) -> str:
    """Return the modules as one, which ends with PAGE or NOTEBOOK.

    A notebook loads one module, from no address, and a browser one file in place of many.
    """
    texts = sources()
    names = (*MODULES, last)
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", texts[name])) for name in names)


def page_files() -> dict[str, bytes]:
    """Return what a browser may load, by name, read once: a request never names a path."""
    texts = {name: text for name, text in sources().items() if not name.endswith(".js")}
    return {name: text.encode() for name, text in texts.items()} | {
        "viewer.js": joined_module(PAGE).encode()
    }
