"""The files of the page, and its modules as one for a notebook."""

from __future__ import annotations

import re
from importlib.resources import files

MODULES = (
    *("dom.js", "state.js", "cosine.js", "colors.js", "source.js", "stage.js", "panel.js"),
    *("picture_view.js", "head_grid.js", "heads_view.js", "pair_view.js", "nearest_view.js"),
    *("question_view.js", "video_view.js", "features_view.js", "rail.js", "controls.js"),
    *("viewer.js", "notebook.js"),
)
"""The modules of the page, each behind those that it imports."""
_IMPORT = re.compile(r'^import [^;]+ from "\./[^"]+";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)


def static_files() -> dict[str, bytes]:
    """Return the files of the page by name, read once: a request never names a path."""
    folder = files("kvtool.viewer") / "static"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def joined_module() -> str:
    """Return the modules as one: a notebook loads a single one, from no address."""
    texts = static_files()
    parts = [_EXPORT.sub("", _IMPORT.sub("", texts[name].decode())) for name in MODULES]
    return "\n".join(parts)
