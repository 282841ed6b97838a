"""How the code reads, in counts; fails where there is more of a kind than its bound allows.

`make lint` runs it. The bounds are what holds today, and only ever get tighter.
"""

from __future__ import annotations

import argparse
import ast
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from tests.tools.source import ROOT, import_graph, module_files, parsed, reachable

MODULE_LINES = 300
FUNCTION_LINES = 40
COLUMNS = 100
BANNED_WORDS = """
    found said own one each every made kept wanted known there here at of other others some
    alone  both same rest able given asked shown held alike less more most much where how who
    why near  taken lacking gone missing about named chosen written drawn whole wide around way
    ways place  places
"""
"""Words that are no nouns of the field, and so are no names of variables or parameters."""

BANNED = frozenset(BANNED_WORDS.split())
CONTRACT = {
    ("kvtool.datasets", "about"),
    ("kvtool.reporting.study", "kept"),
    ("kvtool.tasks.survey", "missing"),
}
"""(package or module, attribute): what docs/adding-*.md has plug-ins define or read keeps its
name, and so does what is a key of printed JSON.
"""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file of Python, read once."""

    name: str
    path: Path

    @cached_property
    def text(self) -> list[str]:
        return self.path.read_text().splitlines()

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(parsed(self.path)))

    def position(self, line: int) -> str:
        return f"{self.path.relative_to(ROOT)}:{line}"


def long_modules(module: Module) -> Iterator[str]:
    """Yield the module if it has over 300 lines."""
    if len(module.text) > MODULE_LINES:
        yield f"{module.position(1)} {len(module.text)} lines"


def long_functions(module: Module) -> Iterator[str]:
    """Yield the functions of over 40 lines; signature and docstring, which say what a function is
    for and list its parameters, do not count, nor do lines of comment.
    """
    for node in module.nodes:
        if isinstance(node, Function):
            statements = node.body[ast.get_docstring(node) is not None :]
            start = statements[0].lineno if statements else node.body[-1].lineno
            body = module.text[start - 1 : node.end_lineno]
            length = sum(not line.lstrip().startswith("#") for line in body)
            if length > FUNCTION_LINES:
                yield f"{module.position(node.lineno)} {node.name} {length} lines"


def long_lines(module: Module) -> Iterator[str]:
    """Yield the lines of over 100 columns."""
    for number, line in enumerate(module.text, 1):
        if len(line) > COLUMNS:
            yield f"{module.position(number)} {len(line)} columns"


def contract_attributes(module: Module) -> set[ast.AST]:
    """Return the attributes in bodies of classes that plug-ins rely on, see CONTRACT."""
    words = {word for owner, word in CONTRACT if f"{module.name}.".startswith(f"{owner}.")}
    classes = [node for node in module.nodes if isinstance(node, ast.ClassDef)]
    return {
        target
        for statement in chain.from_iterable(node.body for node in classes)
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in ast.iter_child_nodes(statement)
        if isinstance(target, ast.Name) and target.id in words
    }


def bound_names(module: Module) -> Iterator[tuple[str, int]]:
    """Yield every name that a module binds to a value or takes as a parameter, with its line."""
    contract = contract_attributes(module)
    for node in module.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if node not in contract:
                yield node.id, node.lineno
        elif isinstance(node, Function) and not node.name.startswith("__"):
            # The parameter of `__eq__` and its like is called `other` everywhere.
            arguments = node.args
            for arg in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                yield arg.arg, arg.lineno


def banned_names(module: Module) -> Iterator[str]:
    """Yield the bound names that are no nouns of the field."""
    for name, line in bound_names(module):
        word = name.strip("_").lower()
        if word in BANNED or word.startswith("of_"):
            yield f"{module.position(line)} {name}"


def circles(modules: Sequence[Module]) -> Iterator[str]:
    """Yield the modules that import themselves, directly or not."""
    graph = import_graph({module.name: module.path for module in modules})
    for module in modules:
        if module.name in reachable(module.name, graph):
            yield module.position(1)


def public_definitions(module: Module) -> Iterator[ast.ClassDef | Function]:
    """Yield the public classes, functions and methods; what lies inside a function is none."""
    bodies = [node.body for node in module.nodes if isinstance(node, ast.Module)]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    bodies.append(node.body)


def undocumented(module: Module) -> Iterator[str]:
    """Yield the public definitions without a docstring."""
    for node in public_definitions(module):
        if ast.get_docstring(node) is None:
            yield f"{module.position(node.lineno)} {node.name}"


def shared_class_names(modules: Sequence[Module]) -> Iterator[str]:
    """Yield the public classes whose name a class of another module has too."""
    classes = [
        (node.name, module.position(node.lineno))
        for module in modules
        for node in public_definitions(module)
        if isinstance(node, ast.ClassDef)
    ]
    counts = Counter(name for name, _ in classes)
    yield from (f"{position} {name}" for name, position in classes if counts[name] > 1)


def in_all(rule: Callable[[Module], Iterator[str]]) -> Callable[[Sequence[Module]], Iterator[str]]:
    """Return a rule about one module as a rule about several."""
    return lambda modules: chain.from_iterable(map(rule, modules))


@dataclass(frozen=True)
class Count:
    """A kind of case that should not be, and the most of them that there may be today."""

    title: str
    cases: Callable[[Sequence[Module]], Iterator[str]]
    bounds: dict[str, int]
    """By package, `kvtool` or `tests`; a package that is not named is not counted."""


COUNTS = {
    "modules": Count(
        f"modules over {MODULE_LINES} lines",
        in_all(long_modules),
        {"kvtool": 0, "tests": 0},
    ),
    "functions": Count(
        f"functions over {FUNCTION_LINES} lines",
        in_all(long_functions),
        {"kvtool": 0, "tests": 0},
    ),
    "lines": Count(
        f"lines over {COLUMNS} columns",
        in_all(long_lines),
        {"kvtool": 0, "tests": 0},
    ),
    "names": Count(
        "names that are no nouns",
        in_all(banned_names),
        {"kvtool": 0, "tests": 0},
    ),
    "circles": Count(
        "modules in import circles",
        circles,
        {"kvtool": 0, "tests": 0},
    ),
    "classes": Count(
        "class names that stand twice",
        shared_class_names,
        {"kvtool": 0},
    ),
    "undocumented": Count(
        "public definitions without docstring",
        in_all(undocumented),
        {"kvtool": 0},
    ),
}
"""What is counted. The aim is 0 of each."""


def documented_percent(modules: Sequence[Module]) -> float:
    """Return how many percent of the public definitions have a docstring."""
    total = sum(1 for module in modules for _ in public_definitions(module))
    bare = sum(1 for module in modules for _ in undocumented(module))
    return 100 * (total - bare) / total


def report(packages: dict[str, list[Module]]) -> list[str]:
    """Print every count beside its bound, and return a line for each bound that is broken."""
    broken = []
    print(f"{'count (most allowed)':40}" + "".join(f"{package:>16}" for package in packages))
    for name, count in COUNTS.items():
        line = f"{count.title:40}"
        for package, bound in count.bounds.items():
            total = len(list(count.cases(packages[package])))
            line += f"{total:8} {f'({bound})':>7}"
            if total > bound:
                broken.append(
                    f"{package}: {total} {count.title}, at most {bound} allowed; "
                    f"python -m tests.tools.house --list {name} lists them"
                )
        print(line)
    print(f"{'public docstrings, percent':40}{documented_percent(packages['kvtool']):8.1f}")
    return broken


def main(arguments: list[str]) -> int:
    """Print the counts, or the cases of one of them; return 1 where a bound is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.house", description=__doc__)
    parser.add_argument("--list", choices=COUNTS, metavar="COUNT", help=", ".join(COUNTS))
    listed = parser.parse_args(arguments).list
    gc.disable()  # it would go over millions of nodes again and again, and free none
    packages = {
        package: [Module(name, path) for name, path in module_files(ROOT / package).items()]
        for package in ("kvtool", "tests")
    }
    if listed:
        count = COUNTS[listed]
        for package in count.bounds:
            print("\n".join(count.cases(packages[package])))
        return 0
    broken = report(packages)
    if broken:
        print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
