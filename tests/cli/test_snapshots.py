"""What every command prints at 80 and at 60 columns, line by line.

`python -m tests.tools.snapshots` writes the snapshots again, see there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from kvtool.cli.app import app
from tests.support.narrow import assert_whole
from tests.support.screens import FROZEN, NOTES, SCREENS, SNAPSHOTS, WIDTHS, Stage, file_name

ENDLESS = 500
"""Columns of a terminal on which nothing has to give way."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"))


def commands_below(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """The words of every command that does something."""
    subcommands = getattr(command, "commands", {})
    if words and (not subcommands or command.invoke_without_command):
        yield " ".join(words)
    for name, subcommand in subcommands.items():
        yield from commands_below(subcommand, (*words, name))


def test_every_command_has_a_screen() -> None:
    commands = set(commands_below(get_command(app)))
    lines = [screen.line for screen in SCREENS.values()]
    absent = {
        name for name in commands if not any(f"{line} ".startswith(f"{name} ") for line in lines)
    }
    assert not absent
    assert len(commands) > 30


def test_no_snapshot_is_of_a_screen_that_is_gone() -> None:
    names = {file_name(name, width) for name in SCREENS for width in WIDTHS}
    assert {path.name for path in SNAPSHOTS.glob("*.txt")} == names
    assert not [path.name for path in FROZEN.iterdir() if '"/' in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("name", SCREENS)
def test_a_command_prints_what_it_printed(name: str, stage: Stage) -> None:
    endless = data_of(stage.shown(SCREENS[name], ENDLESS))
    for width in WIDTHS:
        expected = (SNAPSHOTS / file_name(name, width)).read_text(encoding="utf-8")
        actual = stage.shown(SCREENS[name], width)
        assert actual.splitlines() == expected.splitlines()
        assert_whole(data_of(actual), endless, width)


def data_of(text: str) -> str:
    """What a screen prints on standard output: neither the command nor notes."""
    data, _, _ = text.partition(f"\n{NOTES}\n")
    return data.partition("\n")[2]


@pytest.mark.parametrize(
    ("narrow", "endless", "width"),
    [
        ("score 1.\n5", "score 1.5", 20),
        ("llava-one\nvision", "llava-onevision", 20),
        ("a long line of words", "a long line of words", 10),
        ("score", "score 1.5", 20),
    ],
    ids=["broken", "folded", "long", "absent"],
)
def test_the_rules_can_fail(narrow: str, endless: str, width: int) -> None:
    with pytest.raises(AssertionError):
        assert_whole(narrow, endless, width)


def test_what_the_rules_allow() -> None:
    endless = "run  llava-onevision-spair71k  score 1.5"
    assert_whole("run: llava-onevision-spair71k\nscore: 1.5", endless, 20)
    assert_whole("run lla...71k\nscore 1.5", endless, 20)
    assert_whole("run ░▒▓", endless, 20)
