"""The documentation site: `make docs` builds it from this folder into build/site; every warning is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from kvtool._version import __version__

project = "kvtool"
author = "the kvtool authors"
release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = ["**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"kvtool {release}"
html_copy_source = False
html_show_sphinx = False

# Headings are targets of links, as they are on code hosts.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app: Any) -> None:
    """Show notebooks as pages."""
    app.connect("source-read", read_notebook)


def read_notebook(app: Any, name: str, source: list[str]) -> None:
    """Put Markdown in place of a notebook's JSON."""
    if Path(app.env.doc2path(name)).suffix == ".ipynb":
        source[0] = "\n\n".join(map(cell_text, json.loads(source[0])["cells"]))


def cell_text(cell: dict[str, Any]) -> str:
    """Return a notebook's cell in Markdown, with what it shows."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return text
    outputs = [output_text(output) for output in cell["outputs"]]
    return "\n\n".join([f"```python\n{text}\n```", *outputs])


def output_text(output: dict[str, Any]) -> str:
    """Return what a cell shows in Markdown: a text, or a figure within the page."""
    if "text" in output:
        return "```text\n" + "".join(output["text"]).rstrip() + "\n```"
    data = output["data"]
    if "image/png" in data:
        return (
            f'<img alt="What the cell above draws" src="data:image/png;base64,{data["image/png"]}">'
        )
    return "```text\n" + "".join(data["text/plain"]).rstrip() + "\n```"
