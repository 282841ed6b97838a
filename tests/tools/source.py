"""The package as source: its modules, and who imports whom when the code runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "kvtool"
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where statements hold others."""


def module_files(folder: Path = PACKAGE) -> dict[str, Path]:
    """Return the file of every module below a package's folder, by the module's full name."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names[".".join(parts)] = path
    return names


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file, read once."""
    return ast.parse(path.read_text())


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield all statements that run, however deep, but those that only a type checker sees."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for block in BLOCKS:
            nodes += getattr(node, block, ())


def _imported(path: Path, modules: Mapping[str, Path]) -> set[str]:
    """Return those of the modules that a file imports when it runs, wherever in the file."""
    names = set()
    for node in _statements(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` names a module, `from module import name` does not.
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                names.add(longer if longer in modules else node.module)
    return names & modules.keys()


def import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return, by module, the other modules that it imports."""
    return {name: _imported(path, modules) - {name} for name, path in modules.items()}


def reachable(module: str, graph: Mapping[str, set[str]]) -> set[str]:
    """Return what a module imports, directly or not; the module is among it if in a circle."""
    seen: set[str] = set()
    ahead = set(graph[module])
    while ahead:
        target = ahead.pop()
        seen.add(target)
        ahead |= graph[target] - seen
    return seen
