"""The layout guards itself: who may import whom, what stays out of `import kvtool`, and which docs are generated."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kvtool"
FREE = {"kvtool", "types", "errors", "registry", "digests", "outputs", "bounds"}
"""Modules that every part may import; `kvtool` itself is the lazy front."""

MAY_IMPORT = {
    "types": set(),
    "errors": set(),
    "registry": set(),
    "identity": {"datasets", "store"},
    "digests": set(),
    "outputs": set(),
    "bounds": set(),
    "metrics": set(),
    "store": set(),
    "models": {"demo"},
    "demo": set(),
    "scenes": set(),
    "datasets": {"scenes"},
    "neighbors": set(),
    "reports": {"store", "metrics"},
    "engine": {"models", "datasets", "store", "identity"},
    "probes": {"identity", "models", "datasets", "store", "metrics", "neighbors", "reports"},
    "analysis": {"identity", "models", "datasets", "store", "metrics", "neighbors", "reports", "engine", "probes"},
    "study": {"engine", "analysis", "probes", "scenes", "reports", "store"},
    "cli": {"engine", "analysis", "probes", "reports", "study", "scenes", "store", "models", "datasets"},
    "__main__": {"cli"},
    "__init__": {"engine", "analysis", "probes", "store", "reports"},
}


def imported_parts(path: Path) -> set[str]:
    """Names right below kvtool that a file imports, wherever in the file."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "kvtool" else node.module for alias in node.names]
        for name in names:
            if name.split(".")[0] == "kvtool":
                second = name.split(".")[1] if "." in name else "kvtool"
                parts.add(second if (PACKAGE / second).is_dir() or (PACKAGE / f"{second}.py").is_file() else "kvtool")
    return parts


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported_parts(path) - FREE - {part} <= MAY_IMPORT[part]


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("statement", ["import kvtool", "import kvtool.cli.app", "import kvtool.types, kvtool.errors"])
def test_light_imports_stay_light(statement: str) -> None:
    assert not loaded_after(statement) & {"torch", "transformers", "zarr", "numpy", "pandas", "sklearn"}


HEAVY = {"torch", "transformers", "sklearn", "scipy", "faiss", "zarr", "numcodecs", "pandas", "pyarrow", "matplotlib"}
KEPT = [
    "kvtool.store",
    "kvtool.store.verify",
    "kvtool.engine.local",
    "kvtool.engine.plan",
    "kvtool.experiments.probe.run",
    "kvtool.tasks.predictions",
    *(
        f"kvtool.analysis.{name}"
        for name in ("variance", "knockout", "paired", "prefix", "correlate", "search", "show")
    ),
]
"""What gives a kept result, or finds that nothing is left to do."""


@pytest.mark.parametrize("module", KEPT)
def test_what_gives_a_kept_result_computes_nothing_on_import(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


def test_tasks_load_without_what_computes() -> None:
    statement = "from kvtool.tasks import TASKS\nfor name in TASKS.names(): TASKS.load(name)"
    loaded = loaded_after(statement)
    assert "kvtool.tasks.temporal_correspondence" in loaded
    assert not loaded & HEAVY
