"""The notebooks of docs/notebooks: `python -m tests.tools.notebooks` runs them and keeps what they
show.

A notebook's code cells are run in one namespace, in an empty folder. What a cell prints, the value
of its last expression and its figures become its outputs, as Jupyter would have them; figures have
few colors, so that they stay small.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import os
import sys
import tempfile
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

from tests.tools.source import ROOT

FOLDER = ROOT / "docs" / "notebooks"
Notebook = dict[str, Any]
Output = dict[str, Any]


def paths() -> list[Path]:
    """Return the files of all notebooks."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> Notebook:
    """Return a notebook as plain data."""
    notebook: Notebook = json.loads(path.read_text("utf-8"))
    return notebook


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """Return the cells that hold code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: Notebook, folder: Path) -> dict[str, Any]:
    """Run a notebook's code in a folder, put the outputs into its cells, and return the names that
    it made.
    """
    mpl.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(folder):
        for number, cell in enumerate(code_cells(notebook), start=1):
            cell["outputs"] = run_cell("".join(cell["source"]), names, f"cell {number}")
            cell["execution_count"] = None
    return names


def run_cell(code: str, names: dict[str, Any], label: str) -> list[Output]:
    """Run a cell and return its outputs; a last expression before a semicolon is not shown."""
    tree = ast.parse(code, label)
    last = tree.body[-1] if tree.body else None
    expression = None
    if isinstance(last, ast.Expr) and not code.rstrip().endswith(";"):
        expression = ast.Expression(last.value)
        tree.body.pop()
    printed, value = StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, label, "exec"), names)
        if expression is not None:
            value = eval(compile(expression, label, "eval"), names)
    outputs: list[Output] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed)})
    # A widget lives in a kernel alone: nothing of it can be kept.
    if value is not None and not hasattr(value, "_repr_mimebundle_"):
        outputs.append(displayed({"text/plain": lines(StringIO(repr(value)))}))
    return outputs + figures()


def lines(text: StringIO) -> list[str]:
    """Return a text as notebooks hold it: its lines, with their ends."""
    return text.getvalue().splitlines(keepends=True)


def displayed(data: dict[str, Any]) -> Output:
    """Return an output of some formats."""
    return {"output_type": "display_data", "data": data, "metadata": {}}


def figures() -> list[Output]:
    """Return the open figures as outputs, in 64 colors, and close them."""
    from matplotlib import pyplot

    outputs = []
    for number in pyplot.get_fignums():
        figure, reduced = BytesIO(), BytesIO()
        pyplot.figure(number).savefig(figure, format="png", dpi=100)
        with Image.open(figure) as image:
            image.convert("RGB").quantize(64).save(reduced, "png", optimize=True)
        outputs.append(displayed({"image/png": base64.b64encode(reduced.getvalue()).decode()}))
    pyplot.close("all")
    return outputs


def main(names: list[str]) -> None:
    """Run some notebooks, or all, and write what they show."""
    for path in paths():
        if names and path.stem not in names:
            continue
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", "utf-8")
        print(path.name, path.stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
