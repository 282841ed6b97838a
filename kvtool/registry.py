"""Tables of names: name -> "module:object", loaded on first use; an unknown name answers with the
nearest known one.

A table is open to other people's code in two ways. An installed package names its objects as entry
points of the table's group (`kvtool.models`, `kvtool.datasets`, `kvtool.tasks`,
`kvtool.experiments`). A file of Python, given by `--plugin FILE.py`, holds a dictionary for each
table it adds to: MODELS, DATASETS, TASKS, EXPERIMENTS.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from kvtool.errors import UsageError

log = logging.getLogger("kvtool")

PLUGINS = "KVTOOL_PLUGINS"
"""The environment variable that names plug-in files, joined as in PATH: worker processes load them
from it.
"""


class Registry:
    """A readable table of lazily imported objects, e.g. Registry("task", {name: "module:object"},
    "kvtool.tasks").

    Args:
        what: what the table holds, as messages name it.
        table: the names that kvtool brings itself, in the order in which they are listed.
        group: entry points of this group, and a plug-in's dictionary of the group's last word in
        capitals, add to it.
        needs: attributes that every object has; one of a plug-in that lacks some is refused.
    """

    def __init__(
        self,
        what: str,
        table: dict[str, str],
        group: str | None = None,
        needs: tuple[str, ...] = (),
    ) -> None:
        self.what = what
        self.table = table
        self.group = group
        self.needs = needs

    def names(self) -> list[str]:
        """Return the names of the table, then those of plug-ins and of installed packages."""
        return [*self.table, *self._added()]

    def load(self, name: str) -> Any:
        """Return the object of a name. Raises UsageError that names the nearest known one."""
        if name in self.table:
            return load_object(self.table[name])
        target = self._added().get(name)
        if target is None:
            raise UsageError(self.unknown(name))
        try:
            loaded = load_object(target)
        except Exception as error:  # whatever other people's code raises when it is imported
            raise UsageError(
                f"{self.what} {name}: expected {target} of a plug-in, found "
                f"{type(error).__name__}: {error}"
            ) from error
        if absent := [attribute for attribute in self.needs if not hasattr(loaded, attribute)]:
            raise UsageError(
                f"{self.what} {name} of a plug-in: expected an object with "
                f"{', '.join(self.needs)}; "
                f"found none of its {', '.join(absent)}"
            )
        return loaded

    def usable(self) -> dict[str, Any]:
        """Return all objects by name.

        One of a plug-in that cannot be loaded is left out, with a warning.
        """
        objects = {}
        for name in self.names():
            try:
                objects[name] = self.load(name)
            except UsageError as error:
                warn_once(f"left out: {error}")
        return objects

    def unknown(self, name: str) -> str:
        """Return the message about a name that is not known."""
        names = self.names()
        nearest = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        return f"{self.what}: unknown name {name!r}; {hint}known: {', '.join(names)}"

    def sources(self) -> dict[str, str]:
        """Return where each name comes from: "module:object", or the file of a plug-in."""
        sources = dict(self.table)
        if self.group is not None:
            sources |= installed(self.group, frozenset(self.table))
            for path in plugin_paths():
                sources |= dict.fromkeys(self.entries(load_plugin(path)), path)
        return sources

    def entries(self, plugin: ModuleType) -> dict[str, Any]:
        """Return what the module of a plug-in file adds to this table.

        Raises UsageError for what is no dictionary.
        """
        dictionary = "" if self.group is None else self.group.rpartition(".")[2].upper()
        entries = getattr(plugin, dictionary, {})
        if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
            raise UsageError(
                f"--plugin {plugin.__file__}: {dictionary}: expected a dictionary by name, "
                f"found {type(entries).__name__}"
            )
        return entries

    def _added(self) -> dict[str, Any]:
        """Objects, or "module:object", of installed packages and plug-in files."""
        if self.group is None:
            return {}
        added: dict[str, Any] = dict(installed(self.group, frozenset(self.table)))
        for path in plugin_paths():
            added |= self.entries(load_plugin(path))
        return added


@cache
def warn_once(text: str) -> None:
    """Warn of a text once in a process."""
    log.warning("%s", text)


@cache
def installed(group: str, table_names: frozenset[str]) -> dict[str, str]:
    """Name -> "module:object" of the entry points of a group.

    Names that are taken are left out, with a warning.
    """
    from importlib.metadata import (
        entry_points,  # slow to import, and needed for names of others alone
    )

    targets: dict[str, str] = {}
    for entry in entry_points(group=group):
        package = "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
        if entry.name in table_names or entry.name in RESERVED.get(group, ()):
            log.warning(
                "%s of %s is left out: %s: kvtool has this name itself",
                entry.value,
                package,
                entry.name,
            )
        elif targets.setdefault(entry.name, entry.value) != entry.value:
            owner = targets[entry.name]
            log.warning(
                "%s of %s is left out: %s: %s has this name",
                entry.value,
                package,
                entry.name,
                owner,
            )
    return targets


def load_object(target: Any) -> Any:
    """Return the object that "module:object" names, the module of "module"; anything but a text is
    the object itself.
    """
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute) if attribute else import_module(module)


def plugin_paths() -> list[str]:
    """Return the plug-in files of this process, in the order in which they were named."""
    return [path for path in os.environ.get(PLUGINS, "").split(os.pathsep) if path]


def add_plugin(path: str | Path) -> None:
    """Load a plug-in now, and in every process that is started from now on.

    Raises UsageError where the file is not there, cannot be loaded, or names what kvtool has
    already.
    """
    file = str(Path(path).absolute())
    if os.pathsep in file:
        raise UsageError(f"--plugin {file}: expected a path without {os.pathsep!r}; move the file")
    plugin = load_plugin(file)
    if file in plugin_paths():
        return
    for table in TABLES:
        registry: Registry = load_object(table)
        entries = registry.entries(plugin)
        sources = registry.sources() | dict.fromkeys(
            RESERVED.get(registry.group or "", ()), "kvtool"
        )
        for name in entries.keys() & sources.keys():
            raise UsageError(
                f"--plugin {file}: {registry.what} {name}: expected a new name, found that of "
                f"{sources[name]}; "
                "choose another one"
            )
    os.environ[PLUGINS] = os.pathsep.join([*plugin_paths(), file])


@cache
def load_plugin(path: str) -> ModuleType:
    """Return the module of a plug-in file, loaded once."""
    if not Path(path).is_file():
        raise UsageError(f"--plugin {path}: expected a file of Python, found none; check the path")
    name = f"kvtool_plugin_{Path(path).stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(
            f"--plugin {path}: expected a file of Python, i.e. a name that ends in .py"
        )
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(
            f"--plugin {path}: expected to load it, found {type(error).__name__}: {error}"
        ) from error
    return module


TABLES = (
    "kvtool.models.families:FAMILIES",
    "kvtool.datasets:DATASETS",
    "kvtool.tasks:TASKS",
    "kvtool.registry:EXPERIMENTS",
)
"""The tables that plug-ins add to."""

RESERVED = {
    "kvtool.experiments": (
        *("extract", "report", "serve", "store", "data", "adapter"),
        *("models", "datasets", "demo"),
    )
}
"""Names of a group that are taken though they are in no table: kvtool's commands that are no
experiments.
"""

_EXPERIMENTS = (
    *("probe", "variance", "knockout", "prefix", "paired", "correlate", "average", "compare"),
    *("sae", "score", "search", "show", "lens", "attend", "surface"),
    "intervene",
)
EXPERIMENTS = Registry(
    "experiment",
    {name: f"kvtool.experiments.{name}" for name in _EXPERIMENTS},
    "kvtool.experiments",
)
"""Command -> the folder of its experiment: run.py computes, command.py has its flags, table.py,
plot.py and article.py say how a terminal, a figure and the page show its result.
"""


def experiment_part(command: str, part: str) -> Any:
    """Return a module of an experiment, e.g. its table; None where the experiment has none, or the
    command is unknown.

    The experiment of a plug-in file may be any object with the parts as its attributes.
    """
    if command not in EXPERIMENTS.table and command not in EXPERIMENTS.names():
        return None
    folder = EXPERIMENTS.load(command)
    if hasattr(folder, part) or not isinstance(folder, ModuleType):
        return getattr(folder, part, None)
    name = f"{folder.__name__}.{part}"
    return import_module(name) if hasattr(folder, "__path__") and find_spec(name) else None


def has_part(command: str, part: str) -> bool:
    """Return whether an experiment has a part, e.g. a plot; a module is looked for, not loaded."""
    folder = EXPERIMENTS.table.get(command)
    if folder is None:
        return experiment_part(command, part) is not None
    return find_spec(f"{folder}.{part}") is not None
