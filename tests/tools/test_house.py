"""The counts of `make lint` count what they say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tools import house, source

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]

LONG_NAME = "x" * 101
LONG_BODY = "\n".join(["    pass"] * 40)

CASES: dict[str, tuple[Callable[[house.Module], Iterator[str]], str, int]] = {
    "a module of 300 lines": (house.long_modules, "x = 0\n" * 300, 0),
    "a module of 301 lines": (house.long_modules, "x = 0\n" * 301, 1),
    "a body of 40 lines": (house.long_functions, f"def f():\n{LONG_BODY}\n", 0),
    "a body of 41 lines": (house.long_functions, f"def f():\n    pass\n{LONG_BODY}\n", 1),
    "a comment": (house.long_functions, f"def f():\n    # why\n{LONG_BODY}\n", 0),
    "a docstring": (house.long_functions, f"def f():\n    'A\\\nB'\n{LONG_BODY}\n", 0),
    "a docstring alone": (house.long_functions, "def f():\n    'Doc.'\n", 0),
    "a line of 101 columns": (house.long_lines, f"{LONG_NAME}\n{LONG_NAME[1:]}\n", 1),
    "an assignment": (house.banned_names, "found = 1\n_each: int = 2\nvalues = 3\n", 2),
    "a loop and a parameter": (house.banned_names, "def f(kept):\n    for one in kept: pass\n", 2),
    "a prefix": (house.banned_names, "of_layer = offer = 1\n", 1),
    "what plug-ins rely on": (house.banned_names, "class A:\n    about: int\n    kept = 1\n", 2),
    "use without binding": (house.banned_names, "print(found, kept.said)\n", 0),
    "the other of an operator": (house.banned_names, "def __eq__(self, other): pass\n", 0),
    "a method": (house.undocumented, "class A:\n    'Doc.'\n    def b(self): pass\n", 1),
    "a private method": (house.undocumented, "class _A:\n    def b(self): pass\n", 0),
    "a function in a function": (house.undocumented, "def f():\n    'D'\n    def g(): pass\n", 0),
}


def module(folder: Path, text: str, name: str = "p.m") -> house.Module:
    path = folder / "module.py"
    path.write_text(text)
    return house.Module(name, path)


@pytest.mark.parametrize("case", CASES)
def test_a_rule_counts_its_cases(tmp_path: Path, monkeypatch: Patch, case: str) -> None:
    monkeypatch.setattr(house, "ROOT", tmp_path)
    rule, text, count = CASES[case]
    assert len(list(rule(module(tmp_path, text)))) == count


def test_the_signature_is_not_counted(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(house, "ROOT", tmp_path)
    flags = "\n".join(f"    flag_{number}: int," for number in range(50))
    text = f"def command(\n{flags}\n):\n    pass\n"
    assert list(house.long_functions(module(tmp_path, text))) == []


def test_what_plug_ins_rely_on_keeps_its_name(tmp_path: Path, monkeypatch: Patch) -> None:
    """Only in the classes of the package that documents it, and only as an attribute."""
    monkeypatch.setattr(house, "ROOT", tmp_path)
    text = "class A:\n    about: int\n    kept = 1\n    def f(self):\n        about = 2\n"
    names = [
        case.split()[1] for case in house.banned_names(module(tmp_path, text, "kvtool.datasets.x"))
    ]
    assert names == ["kept", "about"]


def test_circles_are_seen_through_other_modules(tmp_path: Path) -> None:
    package = tmp_path / "p"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from p import b\n",
        "b": "def f():\n    from p.c import g\n",
        "c": "import p.a\n",
        "d": "if TYPE_CHECKING:\n    from p import d\nimport p.a\n",
    }.items():
        (package / f"{name}.py").write_text(text)
    graph = source.import_graph(source.module_files(package))
    circle = {name for name in graph if name in source.reachable(name, graph)}
    assert circle == {"p.a", "p.b", "p.c"}


def test_class_names_are_counted_over_modules(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(house, "ROOT", tmp_path)
    modules = []
    for name, text in {
        "a": "class Fit: 'D'\nclass Curve: 'D'\nclass _Row: 'D'\n",
        "b": "class Fit: 'D'\nclass _Row: 'D'\n",
    }.items():
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        modules.append(house.Module(name, path))
    assert list(house.shared_class_names(modules)) == ["a.py:1 Fit", "b.py:1 Fit"]


@pytest.mark.slow
def test_more_than_a_bound_fails_and_says_where(monkeypatch: Patch, capsys: Capture) -> None:
    rule = house.in_all(lambda module: iter([module.name]))
    count = house.Count("modules at all", rule, {"tests": 1})
    monkeypatch.setattr(house, "COUNTS", {"all": count})
    assert house.main([]) == 1
    assert "--list all lists them" in capsys.readouterr().err
    assert house.main(["--list", "all"]) == 0
    assert "tests.tools.house" in capsys.readouterr().out.splitlines()
