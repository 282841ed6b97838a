"""Tables of names: name -> "module:object", loaded on first use; an unknown name answers with the nearest known one."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
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
