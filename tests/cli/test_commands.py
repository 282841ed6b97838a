"""A command is built once it is named, and no other with it."""

from __future__ import annotations

import subprocess
import sys

from kvtool.cli.commands import MODULES, BuiltInCommands

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
