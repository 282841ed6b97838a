"""Tables of names: name -> "module:object", loaded on first use; an unknown name answers with the nearest known one."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kvtool.errors import UsageError


class Registry:
    """A readable table of lazily imported objects, Registry("task", {name: "module:object"})."""

    def __init__(self, what: str, table: dict[str, str]) -> None:
        self.what = what
        self.table = table

    def names(self) -> list[str]:
        return list(self.table)

    def load(self, name: str) -> Any:
        """The object of a name. Raises UsageError that names the nearest known one."""
        if name not in self.table:
            raise UsageError(self.unknown(name))
        module, _, attribute = self.table[name].partition(":")
        return getattr(import_module(module), attribute)

    def unknown(self, name: str) -> str:
        near = get_close_matches(name, self.table, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{self.what}: unknown name {name!r}; {hint}known: {', '.join(self.table)}"


EXPERIMENTS = Registry(
    "experiment",
    {
        "probe": "kvtool.experiments.probe",
        "variance": "kvtool.experiments.variance",
        "knockout": "kvtool.experiments.knockout",
        "paired": "kvtool.experiments.paired",
        "prefix": "kvtool.experiments.prefix",
        "correlate": "kvtool.experiments.correlate",
        "score": "kvtool.experiments.score",
        "search": "kvtool.experiments.search",
        "show": "kvtool.experiments.show",
    },
)
"""Command -> the folder of its experiment: run.py computes, command.py has its flags, table.py, plot.py and article.py
say how a terminal, a figure and the page show its result."""


def experiment_part(command: str, part: str) -> Any:
    """A module of an experiment, e.g. its table; None where the experiment has none, or the command is unknown."""
    name = find_part(command, part)
    return None if name is None else import_module(name)


def find_part(command: str, part: str) -> str | None:
    """The name of a module of an experiment, without loading it; None as experiment_part."""
    folder = EXPERIMENTS.table.get(command)
    if folder is None or find_spec(f"{folder}.{part}") is None:
        return None
    return f"{folder}.{part}"
