"""The layout guards itself: who may import whom, what stays out of `import kvtool`, and which docs are generated."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import kvtool
from kvtool.cli.app import app
from kvtool.registry import EXPERIMENTS, experiment_part

PACKAGE = Path(__file__).parent.parent / "kvtool"
LEVELS: tuple[tuple[str, ...], ...] = (
    ("_version", "errors"),
    ("types", "registry", "bounds", "digests", "outputs", "inputs", "layers", "schema"),
    ("result", "stats", "metrics"),
    ("models", "datasets", "store", "demo"),
    ("features", "engine"),
    ("tasks", "asking", "pictures", "reporting"),
    ("experiments",),
    ("cli", "kvtool", "__main__"),
)
"""A part may import from its own level and from those before it: the arrows of docs/architecture.md."""

EXCEPTIONS = {
    # The last step of the demo runs every experiment; the world, the layouts and the weights know nothing of them.
    "demo.study": 7,
    # A command of an experiment uses the flags and the console that all commands share.
    **{f"experiments.{name}.command": 7 for name in EXPERIMENTS.names()},
}
"""Modules that stand on a level of their own."""


def module_names() -> dict[str, Path]:
    """Every module of the package, by its name below kvtool."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names[".".join(parts)] = path
    return names


MODULES = module_names()


def typing_nodes(tree: ast.AST) -> set[int]:
    """Nodes that only a type checker sees."""
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    return {id(node) for block in blocks for node in ast.walk(block)}


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports when it runs, wherever in the file."""
    tree = ast.parse(path.read_text())
    unseen = typing_nodes(tree)
    names = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                names.add(longer if longer in MODULES else node.module)
    return names & MODULES.keys()


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def level(module: str) -> int:
    below = module.removeprefix("kvtool.")
    if below in EXCEPTIONS:
        return EXCEPTIONS[below]
    return next(number for number, parts in enumerate(LEVELS) if below.split(".")[0] in parts)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module: str) -> None:
    assert {other for other in IMPORTS[module] if level(other) > level(module)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_in_an_import_circle(module: str) -> None:
    """What a module imports, directly or not, never imports the module."""
    reached: set[str] = set()
    ahead = set(IMPORTS[module])
    while ahead:
        other = ahead.pop()
        reached.add(other)
        ahead |= IMPORTS[other] - reached
    assert module not in reached


def experiment_of(module: str) -> str | None:
    """The experiment that a module belongs to."""
    parts = module.split(".")
    return parts[2] if parts[1:2] == ["experiments"] and len(parts) > 2 else None


@pytest.mark.parametrize("module", [name for name in MODULES if experiment_of(name)])
def test_no_experiment_imports_another(module: str) -> None:
    others = {experiment_of(other) for other in IMPORTS[module]} - {None, experiment_of(module)}
    assert others == set()


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
KEPT = [
    "kvtool.store",
    "kvtool.store.verify",
    "kvtool.engine.local",
    "kvtool.engine.plan",
    "kvtool.experiments.probe.run",
    "kvtool.tasks.evaluation",
    "kvtool.tasks.predictions",
    *(
        f"kvtool.experiments.{name}.run"
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
