"""Where kvtool's commands are. Each is built once it is named: all of them take longer than some
take to run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import isfunction
from typing import Any

import typer
from typer.main import get_command

from kvtool.cli.everywhere import add_common_flags, epilog, name_variables
from kvtool.cli.run_flags import add_run_flags
from kvtool.cli.slurm import divert
from kvtool.errors import UsageError
from kvtool.registry import EXPERIMENTS, experiment_part, warn_once

MODULES = {
    "extract": "kvtool.cli.extract",
    **{name: f"{folder}.command" for name, folder in EXPERIMENTS.table.items()},
    "report": "kvtool.cli.report",
    "serve": "kvtool.cli.serve",
    "adapter": "kvtool.cli.adapter",
    "store": "kvtool.cli.store_hub",
    "data": "kvtool.cli.data",
    "models": "kvtool.cli.models",
    "datasets": "kvtool.cli.datasets",
    "demo": "kvtool.cli.demo",
}
"""Command -> its module, in the order of the help. The module has a function of the command's name
and EXAMPLES, or `app` where there are commands below it.
"""


class BuiltInCommands(Mapping[str, Any]):
    """kvtool's own commands by name."""

    def __init__(self) -> None:
        self._commands: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._commands:
            self._commands[name] = _command(name, import_module(MODULES[name]))
        return self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


def plugin_command(name: str) -> Any:
    """Return the command of a plug-in's experiment, a new one each time. Raises UsageError where it
    has none.
    """
    return _command(name, experiment_part(name, "command"))


def is_usable(name: str) -> bool:
    """Return whether a plug-in's experiment is a command; what is none is left out of the help,
    with a warning.
    """
    try:
        plugin_command(name)
    except UsageError as error:
        warn_once(f"left out: {error}")
        return False
    return True


def _command(name: str, part: Any) -> Any:
    """Return the command that a module has, or that a plug-in's function is, with the flags that
    all commands have.
    """
    single = typer.Typer(rich_markup_mode=None, add_completion=False)
    if hasattr(part, "app"):
        single.add_typer(part.app, name=name)
        command = get_command(single).commands[name]  # type: ignore[attr-defined]
    else:
        examples = epilog(*getattr(part, "EXAMPLES", ()))
        decorate = single.command(name, cls=getattr(part, "Command", None), epilog=examples)
        decorate(_function(name, part))
        command = get_command(single)
    add_common_flags(command)
    divert(command)
    add_run_flags(command)
    name_variables(command, ("KVTOOL", name))
    return command


def _function(name: str, part: Any) -> Any:
    """Return the function of a command. Raises UsageError where a plug-in has none."""
    function_name = name.replace("-", "_")
    function = part if isfunction(part) else getattr(part, function_name, None)
    if function is None:
        raise UsageError(
            f"experiment {name} of a plug-in: expected a part `command` that is a function or has "
            f"one called {function_name}, found none"
        )
    return function
