"""The layout guards itself: who may import whom, what stays out of `import kvtool`, and which docs
are generated.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys

import pytest
from typer.main import get_command

import kvtool
from kvtool.cli.app import app
from kvtool.registry import EXPERIMENTS, experiment_part
from tests.tools.source import PACKAGE, ROOT, import_graph, module_files, reachable

LEVELS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors", "display", "screen"),
    (
        "types",
        "spans",
        "geometry",
        "registry",
        "text_templates",
        "bounds",
        "progress",
        "digests",
        "outputs",
        "inputs",
        "layers",
        "schema",
        "web",
    ),
    ("result", "stats", "metrics"),
    ("models", "datasets", "store", "demo", "autoencoders"),
    ("features", "engine", "adapters"),
    ("tasks", "asking", "pictures", "reporting"),
    ("experiments", "viewer"),
    ("cli", "kvtool", "__main__"),
)
"""A part may import from its own level and from those before it: the arrows of
docs/architecture.md.
"""

EXCEPTIONS = {
    # The last step of the demo runs every experiment; the world, the layouts and the weights know
    # nothing of them.
    "demo.study": 7,
    "demo.heads": 7,
    # A command of an experiment uses the flags and the console that all commands share.
    **{f"experiments.{name}.command": 7 for name in EXPERIMENTS.names()},
}
"""Modules that stand on a level of their own."""


MODULES = module_files(PACKAGE)


@functools.cache
def package_imports() -> dict[str, set[str]]:
    """What each module of the package imports; read when a test first asks for it."""
    return import_graph(MODULES)


def level(module: str) -> int:
    below = module.removeprefix("kvtool.")
    if below in EXCEPTIONS:
        return EXCEPTIONS[below]
    return next(number for number, parts in enumerate(LEVELS) if below.split(".")[0] in parts)


def test_imports_follow_the_arrows() -> None:
    wrong = [
        (module, target)
        for module, targets in package_imports().items()
        for target in targets
        if level(target) > level(module)
    ]
    assert wrong == []


def test_no_module_is_in_an_import_circle() -> None:
    """What a module imports, directly or not, never imports the module."""
    imports = package_imports()
    assert [module for module in MODULES if module in reachable(module, imports)] == []


def experiment_of(module: str) -> str | None:
    """The experiment that a module belongs to."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["experiments"] and len(parts) > 2 else None


def test_no_experiment_imports_another() -> None:
    wrong = [
        (module, target)
        for module, targets in package_imports().items()
        for target in targets
        if experiment_of(module)
        and experiment_of(target)
        and experiment_of(module) != experiment_of(target)
    ]
    assert wrong == []


@pytest.mark.sampled
@pytest.mark.parametrize("experiment", EXPERIMENTS.names())
def test_every_experiment_is_a_folder_with_a_library_side_and_a_command(experiment: str) -> None:
    """Each is called by one name: in the table, as folder, as function of kvtool and as command."""
    assert callable(getattr(kvtool, experiment))
    assert callable(getattr(experiment_part(experiment, "run"), experiment))
    assert experiment in get_command(app).commands  # type: ignore[attr-defined]


def test_every_folder_of_an_experiment_is_in_the_table() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("experiments/*/__init__.py")}
    assert folders == set(EXPERIMENTS.names())


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize(
    "statement", ["import kvtool", "import kvtool.cli.app", "import kvtool.types, kvtool.errors"]
)
def test_light_imports_stay_light(statement: str) -> None:
    assert not loaded_after(statement) & {
        "torch",
        "transformers",
        "zarr",
        "numpy",
        "pandas",
        "sklearn",
        "starlette",
        "uvicorn",
        "anywidget",
    }


HEAVY = {
    "torch",
    "transformers",
    "sklearn",
    "scipy",
    "faiss",
    "zarr",
    "numcodecs",
    "pandas",
    "pyarrow",
    "matplotlib",
}
RESULT_MODULES = [
    "kvtool.store",
    "kvtool.store.verify",
    "kvtool.engine.local",
    "kvtool.engine.plan",
    "kvtool.experiments.probe.run",
    "kvtool.tasks.evaluation",
    "kvtool.tasks.predictions",
    "kvtool.viewer.serve",
    "kvtool.viewer.widget",
    *(
        f"kvtool.experiments.{name}.run"
        for name in (
            "variance",
            "knockout",
            "paired",
            "prefix",
            "correlate",
            "average",
            "compare",
            "search",
            "show",
            "lens",
            "attend",
            "surface",
            "intervene",
            "sae",
        )
    ),
]
"""What gives a kept result, or finds that nothing is left to do."""


@pytest.mark.slow
@pytest.mark.parametrize("module", RESULT_MODULES)
def test_what_gives_a_kept_result_computes_nothing_on_import(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


@pytest.mark.slow
def test_tasks_load_without_what_computes() -> None:
    statement = "from kvtool.tasks import TASKS\nfor name in TASKS.names(): TASKS.load(name)"
    loaded = loaded_after(statement)
    assert "kvtool.tasks.temporal_correspondence" in loaded
    assert not loaded & HEAVY


SHARED = ("tests.support", "tests.contracts", "tests.tools")
"""What every test may import; besides, a helper or a program that lies in the test's own folder."""
TESTS = module_files(ROOT / "tests")


@functools.cache
def imports_of_tests() -> dict[str, set[str]]:
    """What each module of the tests imports."""
    return import_graph(TESTS)


def test_no_test_imports_another_test() -> None:
    """What several folders need is in tests/support."""
    wrong = []
    for module, targets in imports_of_tests().items():
        folder = ".".join(module.split(".")[:2])
        for target in targets:
            is_near = target == folder or target.startswith((*SHARED, f"{folder}."))
            if not is_near or target.split(".")[-1].startswith(("test_", "conftest")):
                wrong.append((module, target))
    assert wrong == []


def test_the_documented_levels_are_these() -> None:
    """Every folder and module of the top stands in docs/architecture.md, on its level."""
    page = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, re.MULTILINE)
    for number, parts in enumerate(LEVELS, 1):
        listed = {
            name.rstrip("/").removesuffix(".py").replace("__init__", "kvtool")
            for level, cell in rows
            if int(level) == number
            for name in re.findall("`(.*?)`", cell)
        }
        assert listed == set(parts)
    for folder in PACKAGE.glob("**/"):
        if folder != PACKAGE and folder.name != "__pycache__" and any(folder.glob("*.py")):
            assert f"`{folder.name}/`" in page, folder
