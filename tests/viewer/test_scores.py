"""Scores in the viewer: the numbers, units and chance of the terminal and the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.reporting.chance import against_chance
from kvtool.reporting.numbers import interval, show
from kvtool.store import Run, open_store
from kvtool.viewer.viewer import Viewer, runs_by_name
from tests.support import sae_results
from tests.support.planted_probes import TASK, block_row, keep_probe, keep_usual_probe


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    shutil.copytree(run.store, tmp_path / "pairs.kv")
    return kvtool.open(tmp_path / "pairs.kv").run()


def asked(run: Run, resource: str, **texts: str) -> Any:
    viewer = Viewer(runs_by_name([(Path(run.store), run)]))
    scope = {"store": "pairs.kv", "run": run.name, **texts}
    return json.loads(viewer.answer(resource, scope).body)


def planted(run: Run) -> Any:
    scores = asked(run, "scores")["scores"]
    return next(probe for probe in scores if probe["task"] == TASK)


def test_of_a_feature_that_several_results_have_the_newest_is_shown(copy: Run) -> None:
    (image, *_) = copy.ids
    item = {**sae_results.items(2)[0], "image": image, "feature": 7}
    record = {**sae_results.sae_result().to_json(), "config": {"run_hash": copy.config.hash}}
    for name, activation in (("first", 9.0), ("second", 1.0)):
        items = [{**item, "activation": activation}]
        open_store(copy.store).save_result(name, {**record, "items": items})
    (feature,) = asked(copy, "features", image=image)["features"]
    assert feature["activation"] == 1.0


@pytest.mark.slow
def test_scores_are_texts_of_the_terminal_in_percent(copy: Run) -> None:
    result = keep_usual_probe(copy)
    probe = planted(copy)
    assert (probe["metric"], probe["unit"]) == ("PCK", "%")
    below = ["value", 2, 0, 0.03, "3.0", "3.0 [2.0, 4.0]", True]
    above = ["value", 2, 1, 0.0621, "6.2", "6.2 [5.2, 7.2]", False]
    assert below in probe["blocks"]
    assert above in probe["blocks"]
    for row in result.rows:
        texts = [show(result, row["pck_image"]), interval(result, row)]
        assert texts in [entry[4:6] for entry in probe["blocks"]]


@pytest.mark.slow
def test_the_best_is_the_probes_and_no_baseline(copy: Run) -> None:
    result = keep_usual_probe(copy)
    probe = planted(copy)
    assert probe["best"] == {"block": ["value", 3, 1], "text": "10.7 [9.7, 11.7]", "choice": ""}
    assert {entry[0] for entry in probe["blocks"]} == {"value"}
    # The tower of another run is no block of this one.
    assert [entry[:4] for entry in probe["baselines"]] == [["vision", 3, 0, 0.154]]
    assert probe["verdict"] == against_chance(result)


@pytest.mark.slow
def test_chance_is_that_of_the_kind(copy: Run) -> None:
    rows = [block_row("value", 3, 1, 0.107), block_row("vision", 3, 0, 0.1, chance=0.08)]
    keep_probe(copy, [*rows, block_row("key", 3, 0, 0.2, chance=None)])
    assert planted(copy)["chance"] == {
        "value": {"name": "chance, random point", "text": "4.5"},
        "vision": {"name": "chance, random point", "text": "8.0"},
    }


def test_areas_are_fractions_and_of_errors_more_is_worse(copy: Run) -> None:
    areas = [block_row("value", 2, n, 0.62913, "auroc", chance=0.5) for n in (0, 1)]
    keep_probe(copy, areas, "auroc")
    probe = planted(copy)
    assert (probe["unit"], probe["blocks"][0][4]) == ("", "0.629")
    assert probe["chance"]["value"]["text"] == "0.500"
    errors = [block_row("value", 2, n, score, "rmse") for n, score in enumerate((0.03, 0.05))]
    keep_probe(copy, errors, "rmse", unit="m", higher_is_better=False)
    probe = planted(copy)
    assert probe["unit"] == "m"
    assert [entry[6] for entry in probe["blocks"]] == [False, True]


def test_a_best_block_of_half_the_units_says_so(copy: Run) -> None:
    row = block_row("value", 2, 0, 0.1)
    keep_probe(copy, [row], best={**row, "select": "split", "n": 4})
    assert planted(copy)["best"]["choice"] == "chosen on the other half, n = 4 of 9"


def test_the_strongest_feature_is_first(copy: Run) -> None:
    spot = {"image": copy.ids[0], "grid": [6, 8], "cells": [1], "activations": [1.0]}
    items = [
        {**sae_results.items(2)[0], **spot, "feature": number, "activation": activation}
        for number, activation in enumerate((2.0, 5.0, 3.0))
    ]
    record = {**sae_results.sae_result().to_json(), "items": items}
    record["config"] = {"run_hash": copy.config.hash}
    open_store(copy.store).save_result("sae", record)
    features = asked(copy, "features", image=copy.ids[0])["features"]
    assert [item["activation"] for item in features] == [5.0, 3.0, 2.0]


def test_results_of_other_runs_are_not_parsed(copy: Run, caplog: pytest.LogCaptureFixture) -> None:
    keep_usual_probe(copy)
    damaged = open_store(copy.store).save_result("other", {"run": "another"})
    damaged.write_bytes(damaged.read_bytes().replace(b"another", b"damaged"))
    assert planted(copy)["blocks"]
    assert caplog.messages == []
