"""The commands that the report names are those that gave its results."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from kvtool.cli.app import app
from kvtool.reporting import KeptResult, choose
from kvtool.reporting.commands import extract_command, result_command, viewer_parts
from kvtool.result import Result
from tests.support import studies

INFO = {
    "store": "s.kv", "run": "model-semantic-correspondence", "model": "m", "dataset": "spair71k",
    "dataset_path": "/d a", "split": "test", "prefix": "none", "view": "base", "keys": "post-rope",
    "kinds": ["key", "value"], "dtype": "bfloat16", "layers": [0, 1, 2, 3],
    "vision_layers": [], "kv_heads": 2, "images": 3, "revision": "0",
}  # fmt: skip


@pytest.mark.slow
def test_commands_are_taken_by_the_command_line() -> None:
    """Each ends where the store is looked for, not in its options."""
    results = [*studies.every_result()[:6], studies.probe_result(layers=2, select="split")]
    commands = [
        extract_command(INFO),
        *(result_command(KeptResult("/none/s.kv", result), INFO) for result in results),
    ]
    assert commands[0].startswith("kvtool extract s.kv --model m --dataset 'spair71k:/d a@test'")
    assert "--layers" not in commands[1]
    assert "--layers 0-1" in commands[-1]
    assert "--select split" in commands[-1]
    for command in commands[1:]:
        outcome = CliRunner().invoke(app, shlex.split(command)[1:])
        assert "No such option" not in outcome.output
        assert "/none/s.kv" in str(outcome.exception), (command, outcome.output)


def test_the_viewer_opens_blocks_of_one_run_that_the_store_has() -> None:
    probe, variance = studies.probe_result(), studies.variance_result()
    parts = viewer_parts(KeptResult("a b.kv", probe), INFO | {"kinds": ["value", "saliency"]})
    assert parts == {
        "command": "kvtool serve 'a b.kv'",
        "run": probe.config["run"],
        "kinds": ["value"],
        "score": probe.task,
    }
    assert (viewer_parts(KeptResult("s.kv", variance), INFO) or {})["score"] is None
    assert viewer_parts(KeptResult("s.kv", probe), None) is None
    beside = replace(probe, rows=[row | {"run": "another"} for row in probe.rows])
    assert viewer_parts(KeptResult("s.kv", beside), INFO) is None


def test_an_extraction_is_named_with_its_sizes_and_layers() -> None:
    sized = INFO | {"image_size": "short:480", "min_pixels": 784, "max_pixels": 50176}
    sized |= {"layers": [0, 2], "depth": 4}
    command = extract_command(sized)
    for text in ("--image-size short:480", "--min-pixels 784", "--max-pixels 50176"):
        assert text in command
    assert "--layers 0,2" in command
    plain = extract_command(INFO | {"image_size": "", "min_pixels": 0, "max_pixels": 0, "depth": 4})
    assert not any(flag in plain for flag in ("--image-size", "-pixels", "--layers"))
    outcome = CliRunner().invoke(app, shlex.split(command)[1:])
    assert "No such option" not in outcome.output


def test_heads_from_standard_input_are_piped_again() -> None:
    result = studies.knockout_result()
    selection = {
        "conditions": [{"condition": "chosen", "heads": [[0, 1], [2, 0]]}],
        "heads": "standard input",
    }
    command = result_command(
        KeptResult("s.kv", replace(result, config=result.config | selection)), None
    )
    lines, _, second_command = command.partition(" | ")
    printed = subprocess.run(
        ["bash", "-c", lines], capture_output=True, text=True, check=True
    ).stdout
    heads = [{"layer": 0, "kv_head": 1}, {"layer": 2, "kv_head": 0}]
    assert [json.loads(line) for line in printed.splitlines()] == heads
    assert second_command.startswith("kvtool knockout s.kv --benchmark pope:/data/pope --heads - ")


def test_the_command_of_a_correlation_names_what_it_was_asked() -> None:
    config = {
        "models": [{"name": "demo@1"}, {"name": "demo"}],
        "tasks": {"co-segmentation": {}},
        "benchmarks": ["blink"],
    }
    options = {
        "options": {"co-segmentation": {"restarts": 1}},
        "limit": None,
        "select": "max",
        "seed": 0,
    }
    (entry,) = choose(
        [("s.kv", Result("correlate", None, "accuracy", 2, [], config=config | options).to_json())]
    )
    expected = (
        "kvtool correlate s.kv --models demo@1,demo --tasks co-segmentation "
        "--benchmarks blink --restarts 1"
    )
    assert result_command(entry, None) == expected
