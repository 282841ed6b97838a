"""The modules in static/, joined to one for whoever shows them."""

from __future__ import annotations

import re
from importlib.resources import files

MODULES = (
    *("dom.js", "state.js", "cosine.js", "colors.js", "source.js", "stage.js", "panel.js"),
    *("scores.js", "picture_view.js", "head_grid.js", "heads_view.js", "pair_view.js"),
    *("nearest_view.js", "question_view.js", "video_view.js", "features_view.js", "rail.js"),
    *("controls.js", "viewer.js"),
)
"""The modules that the server's page and the notebook share, each behind those that it imports."""
PAGE, NOTEBOOK = "start.js", "notebook.js"
"""What begins in either."""
REPORT_MODULES = (
    *("dom.js", "cosine.js", "colors.js", "stage.js", "panel.js", "scores.js"),
    *("picture_view.js", "page_pictures.js"),
)
"""The modules of a page of results: those of one picture, and what begins there."""
STYLE = "viewer.css"
_IMPORT = re.compile(r'^import [^;]+ from "\./[^"]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def sources() -> dict[str, str]:
    """Return the files as they lie in the package, by name."""
    folder = files("kvtool.web") / "static"
    return {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.is_file()}


def joined(names: tuple[str, ...]) -> str:
    """Return modules as one.

    A notebook and a page of results load one module, from no address, and a browser one file in
    place of many.
    """
    texts = sources()
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", texts[name])) for name in names)


def joined_module(last: str) -> str:
    """Return the module of the viewer, which ends with PAGE or NOTEBOOK."""
    return joined((*MODULES, last))
