"""--dataset and --model choose a run beside --run, in every command that takes one of a store; and
what errors print to be pasted can be pasted.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from kvtool.cli.app import app
from kvtool.cli.run_flags import FIELDS
from kvtool.display import shell_path
from kvtool.store import descriptions, open_store
from kvtool.store.places import without_places
from tests.support.runs import config, create_run, new_store
from tests.support.shell import Shell

RUNS = {"a": ("voc", "lab/x"), "b": ("coco", "lab/x"), "c": ("coco", "y")}
"""Runs by name: data set and model."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = new_store(tmp_path_factory.mktemp("store"))
    for name, (dataset, model) in RUNS.items():
        info = replace(config().model, name=model)
        create_run(opened, config(name=name, dataset=dataset, model=info))
    return opened.path


def commands(command: Any, words: str = "kvtool") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every command with its parameters, by flag."""
    yield words, {flag: flags for flags in command.params for flag in flags.opts}
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from commands(subcommand, f"{words} {name}")


@pytest.mark.slow
def test_every_command_that_takes_a_run_takes_its_data_set() -> None:
    assert set(FIELDS) <= set(descriptions.FIELDS)
    takers = {
        words: flags
        for words, flags in commands(get_command(app))
        if {"store", "--run"} <= flags.keys()
    }
    assert len(takers) > 10
    assert all({"--dataset", "--model"} <= flags.keys() for flags in takers.values())
    assert "--dataset" not in dict(commands(get_command(app)))["kvtool store remove"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("flags", "run"),
    [
        (["--dataset", "voc"], "a"),
        (["--model", "y"], "c"),
        (["--dataset", "coco", "--model", "x"], "b"),
        (["--model", "lab/x", "--run", "dataset=coco"], "b"),
        (["--run", "c"], "c"),
    ],
)
def test_the_run_that_is_meant(store: Path, shell: Shell, flags: Sequence[str], run: str) -> None:
    code, _, err = shell("variance", store, *flags)
    assert code == 2
    assert f"run {run}" in err[-1], "an empty run is refused by its name"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "coco"], "expected one run with dataset=coco, found 2: b, c"),
        (["--dataset", "none"], "no run with dataset=none; it has: a, b, c"),
        (["--dataset", "coco", "--run", "b"], "--run b names the run: expected no --dataset"),
        ([], "(--run, or --dataset NAME; kvtool store runs {store} lists them), found runs: a, b"),
    ],
)
def test_a_run_that_is_not_clear(
    store: Path, shell: Shell, flags: Sequence[str], message: str
) -> None:
    code, _, err = shell("variance", store, *flags)
    assert code == 2
    assert message.format(store=store) in err[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-x.kv", "a b.kv", "it's.kv", "--run.kv"])
def test_the_command_of_an_error_can_be_pasted(
    name: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_store(name, create=True)
    for run in "ab":
        create_run(opened, config(name=run))
    _, _, err = shell("variance", f"./{name}")
    command = err[-1].partition("; kvtool ")[2].partition(" lists them")[0]
    code, out, _ = shell(*shlex.split(command))
    assert code == 0
    assert '"run": "a"' in out
    assert shlex.split(shell_path(Path(name)))[0].lstrip("./").endswith(name.lstrip("-"))


def test_a_shared_file_names_no_store_as_a_flag() -> None:
    assert without_places("kvtool probe /data/-x.kv all", ["/data/-x.kv"]) == (
        "kvtool probe ./-x.kv all"
    )
