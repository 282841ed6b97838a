"""A flag means the same in every command, and -q and -v stand anywhere on the line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import kvtool
from kvtool.cli import console
from kvtool.cli.app import app
from kvtool.cli.parsing import parse_folder, parse_folders, parse_layers, parse_model
from kvtool.demo.layouts import write_scenes
from kvtool.errors import UsageError
from kvtool.tasks.blocks import plan_blocks
from tests.support.runs import config, create_run, new_run, new_store
from tests.support.shell import Shell


def commands(command: Any, words: str = "kvtool") -> Iterator[tuple[str, Any]]:
    """Every command with its words."""
    yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from commands(subcommand, f"{words} {name}")


COMMANDS = dict(commands(get_command(app)))
SCORES = {words for words in COMMANDS if words.startswith("kvtool score")}
"""Their --data is a folder that nothing else names."""


def parameters(flag: str) -> dict[str, Any]:
    """The parameter of a flag in every command that has it."""
    return {
        words: parameter
        for words, command in COMMANDS.items()
        for parameter in command.params
        if flag in parameter.opts
    }


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_can_be_quiet_and_verbose(words: str) -> None:
    flags = [flag for parameter in COMMANDS[words].params for flag in parameter.opts]
    assert {"-q", "--quiet", "-v", "--verbose"} <= {*flags}
    assert len(flags) == len(set(flags))


def test_flags_of_one_name_have_one_grammar() -> None:
    for flag, users in (("--layers", 6), ("--heads", 4), ("--device", 8), ("--data", 6)):
        by_command = parameters(flag)
        assert len(by_command) >= users
        metavars = {
            parameter.metavar for words, parameter in by_command.items() if words not in SCORES
        }
        expected = {
            "--layers": {"LAYERS"},
            "--heads": {"HEADS", "SOURCE"},
            "--device": {"DEVICE", "DEVICE[,DEVICE...]"},
            "--data": {"[NAME=]PATH", "NAME=PATH"},
        }
        assert metavars == expected[flag]
    assert parameters("--device").keys() == parameters("--devices").keys()
    bounds = {(limit.min, limit.max) for limit in parameters("--limit").values()}
    assert bounds == {(1, 10**9)}
    assert "kvtool paired" in parameters("--limit").keys() & parameters("--n").keys()


@pytest.mark.parametrize(
    "flag", ["--format", "--layers", "--max-new-tokens", "--plot", "--style", "--tokens", "--wait"]
)
def test_flags_that_mean_the_same_say_the_same(flag: str) -> None:
    by_command = parameters(flag)
    assert len(by_command) > 1
    assert len({(parameter.help, parameter.metavar) for parameter in by_command.values()}) == 1


def test_a_seed_says_what_is_drawn() -> None:
    helps = [parameter.help for parameter in parameters("--seed").values()]
    assert len(helps) > 10
    assert all(text.startswith("Random seed of the ") for text in helps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "has_notes", "has_debug"),
    [
        ("store verify S", True, False),
        ("-q store verify S", False, False),
        ("store -q verify S", False, False),
        ("store verify -q S", False, False),
        ("store verify S --quiet", False, False),
        ("store verify S -v", True, True),
        ("store verify -v -q S", False, False),
        ("-v store verify S -q", False, False),
        ("-q store verify S -v", False, False),
    ],
)
def test_quiet_and_verbose_anywhere(
    line: str, has_notes: bool, has_debug: bool, shell: Shell, tmp_path: Path
) -> None:
    store = new_run(tmp_path / "s").store
    code, _, notes = shell(*(str(store) if word == "S" else word for word in line.split()))
    assert code == 0
    assert any("no problem" in note for note in notes) == has_notes
    console.log.debug("a note for -v")
    assert len(console.log.handlers) == 1
    assert (console.log.handlers[0].level < logging.INFO) == has_debug


@pytest.mark.slow
def test_a_value_is_no_flag(shell: Shell, tmp_path: Path) -> None:
    """What follows a flag that takes a value is its value."""
    store = new_run(tmp_path / "s").store
    code, _, notes = shell("probe", store, "all", "--run", "-q")
    assert code == 2
    assert "no run '-q'" in notes[-1]


def test_layers_by_name(tmp_path: Path) -> None:
    """A run of layers 1 and 3 of five, vision layer 2 of three."""
    run = create_run(new_store(tmp_path), config())

    def layers(name: str, kind: Any = "value") -> tuple[int, ...]:
        return plan_blocks(run, [kind], name, None).blocks[0][1]

    assert layers("middle") == (1,)
    assert layers("late") == (3,)
    assert layers("last:4") == (1, 3)
    assert layers("last:99") == (1, 3)
    assert layers("late", "vision") == (2,)
    with pytest.raises(UsageError, match=r"value has none of the last:1 layers; stored: 1, 3"):
        layers("last:1")
    with pytest.raises(UsageError, match="expected early, middle, late, last:N or numbers"):
        layers("deep")
    assert (parse_layers("late"), parse_layers("2,0-1"), parse_layers(None)) == (
        "late",
        (0, 1, 2),
        None,
    )


@pytest.mark.slow
def test_an_extraction_of_layers_by_name_goes_on(
    shell: Shell, tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    line = ("extract", tmp_path / "s.kv", "--model", tiny_model, "--dataset", f"folder:{pictures}")
    assert shell(*line, "--limit", 1, "--layers", "last:2", "--device", "cpu")[0] == 0
    assert kvtool.open(tmp_path / "s.kv").run().config.layers == (1, 2)
    for layers in ("last:2", "1-2"):
        code, out, _ = shell(*line, "--limit", 1, "--layers", layers, "--devices", "cpu")
        assert (code, json.loads(out)["already_stored"]) == (0, 1)
    code, _, notes = shell(*line, "--layers", "deep")
    assert code == 2
    assert "expected early, middle, late, last:N or numbers, found 'deep'" in notes[-1]
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{pictures}",
                   limit=1, layers="early")  # fmt: skip
    runs = kvtool.open(tmp_path / "s.kv").readable_runs()
    assert {run.config.layers for run in runs} == {(1, 2), (0,)}


@pytest.mark.slow
def test_heads_of_a_knockout_by_number(shell: Shell, tmp_path: Path, tiny_model: Path) -> None:
    write_scenes(tmp_path, only=["mme"])
    line = ("knockout", tmp_path / "s.kv", "--benchmark", f"mme:{tmp_path}/mme", "--limit", 1)
    options = ("--model", f"tiny={tiny_model}", "--max-new-tokens", 1, "--format", "json")
    code, out, _ = shell(*line, *options, "--heads", "1", "--layers", "0-1")
    result = json.loads(out)
    assert (code, result["config"]["heads"]) == (0, "1")
    condition = next(row for row in result["config"]["conditions"] if row["condition"] == "chosen")
    assert condition["heads"] == [[0, 1], [1, 1]]
    code, _, notes = shell(*line, *options, "--heads", "0-2")
    assert code == 2
    assert "expected kv_head from 0 to 1, found 2" in notes[-1]


def test_places_of_data_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_folder(None) is None
    assert parse_folder("/data/SPair-71k") == Path("/data/SPair-71k")
    for text in ("spair71k=/data/S", "spair71k:/data/S"):
        assert parse_folder(text) == Path("/data/S")
        assert parse_folders([text], "--data") == {"spair71k": "/data/S"}
    # A path with such a character is a path, as is one that is there.
    assert parse_folder("/data/x=1") == Path("/data/x=1")
    Path("coco=old").mkdir()
    assert parse_folder("coco=old") == Path("coco=old")
    assert parse_folders(["coco=/a:b"], "--data") == {"coco": "/a:b"}
    assert parse_model("llava-hf/x") == "llava-hf/x"
    assert parse_model("llava-hf/x=/models/x") == "/models/x"
    assert parse_folders(["lab/x=/m=1"], "--model") == {"lab/x": "/m=1"}
    for text in ("coco", "=x", "coco="):
        with pytest.raises(UsageError, match="--data: expected NAME=FOLDER, found"):
            parse_folders([text], "--data")
