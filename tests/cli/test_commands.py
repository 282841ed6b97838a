"""A command is built once it is named, and no other with it; each flag has its variable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kvtool.cli.app import command_line
from kvtool.cli.commands import MODULES, BuiltInCommands
from tests.support.shell import Shell

BUILDS = """
import sys
from kvtool.cli.app import command_line
command_line().get_command(None, "store")
print("\\n".join(sys.modules))
"""


def test_only_the_named_command_is_loaded() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", BUILDS], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) & set(MODULES.values()) == {MODULES["store"]}


def test_a_command_is_built_once_and_has_the_flags_of_all() -> None:
    commands = BuiltInCommands()
    assert commands["score"] is commands["score"]
    assert list(commands) == list(MODULES)
    for command in (commands["probe"], commands["score"].commands["pope"]):
        flags = [flag for parameter in command.params for flag in parameter.opts]
        assert flags.count("--quiet") == flags.count("--wide") == 1


def variables(command: Any, words: str) -> Iterator[tuple[str, list[str]]]:
    """Each long flag of a command and of those below it: the variable that the help promises, and
    those that set it.
    """
    for parameter in command.params:
        explicit = parameter.envvar or []
        names = [explicit] if isinstance(explicit, str) else [*explicit]
        names.append(f"{words}_{parameter.name}".upper())
        for flag in parameter.opts:
            if flag.startswith("--"):
                yield f"{words}_{flag[2:].replace('-', '_')}".upper(), names
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from variables(subcommand, f"{words}_{name.replace('-', '_')}")


def test_every_flag_can_be_set_by_the_variable_of_its_own_words(
    monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    flags = list(variables(command_line(), "KVTOOL"))
    assert len(flags) > 300
    assert [promised for promised, names in flags if promised not in names] == []
    monkeypatch.setenv("KVTOOL_SEARCH_AT", "4x")
    code, _, err = shell("search", "nowhere.kv", "--image", "a")
    assert (code, err) == (2, ["kvtool: --at: expected X,Y in pixels such as 120,64.5; found '4x'"])
