"""Commands over runs of models whose layers differ: Gemma 4, of which the last layers share keys
and values, and Qwen3.5, of which a layer has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.store import Run
from tests.support import datasets as builders
from tests.support import tiny
from tests.support.shell import Shell

HEADS = {"gemma4": {(0, 0), (0, 1), (1, 0)}, "qwen3_5": {(0, 0), (0, 1), (2, 0), (2, 1)}}
"""Every (layer, kv_head) that has keys and values of its own."""
DIMS = {"gemma4": {0: 8, 1: 16}, "qwen3_5": {0: 8, 2: 8}}


@pytest.fixture(scope="module", params=HEADS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    model = getattr(tiny, request.param)(folder / request.param)
    data = builders.own(folder / "data", per_class=2)
    options: dict[str, Any] = {"dtype": "float32", "devices": ("cpu",)}
    kvtool.extract(folder / "s.kv", model=str(model), dataset=f"own:{data}", **options)
    return kvtool.open(folder / "s.kv").run()


def expected_heads(run: Run) -> set[tuple[int, int]]:
    return HEADS[run.config.model.family]


@pytest.mark.slow
def test_a_probe_scores_the_heads_that_there_are(run: Run) -> None:
    result = kvtool.probe(run, "semantic-correspondence", kinds=["key", "value"])
    blocks = {(row["kind"], row["layer"], row["kv_head"]) for row in result.rows}
    assert blocks == {
        (kind, layer, head) for kind in ("key", "value") for layer, head in expected_heads(run)
    }


@pytest.mark.slow
def test_variance_is_that_of_each_layers_own_dimensions(run: Run) -> None:
    rows = kvtool.variance(run).rows
    assert {(row["layer"], row["kv_head"]) for row in rows} == expected_heads(run)
    shapes = {sample.spans[0].grid for sample in run.samples}
    assert len(shapes) == 1, "a reference without pools"
    for row in rows:
        keys = run.read("key", row["layer"], row["kv_head"]).values.astype(np.float64)
        assert keys.shape[1] == DIMS[run.config.model.family][row["layer"]]
        by_image = keys.reshape(len(run.samples), -1, keys.shape[1])
        trace = by_image.var(axis=0).sum(axis=1)
        assert row["variance"] == pytest.approx(trace.mean(), rel=1e-5)


@pytest.mark.slow
def test_a_knockout_of_all_heads_counts_those_that_there_are(run: Run) -> None:
    heads = sorted(expected_heads(run))
    options: dict[str, Any] = {"max_new_tokens": 1, "limit": 4, "device": "cpu"}
    result = kvtool.knockout(run, f"own:{run.place}", heads, **options)
    counts = {row["condition"]: row["n_heads"] for row in result.rows}
    assert counts["none"] == 0
    assert max(counts.values()) == len(heads)


@pytest.mark.slow
def test_the_table_of_runs_names_layers_without_keys_and_values(run: Run, shell: Shell) -> None:
    _, out, _ = shell("store", "runs", run.store, "--format", "table")
    heads = {
        "gemma4": "heads 2 of 8 dims in layer 0; 1 of 16 dims in layer 1; none in layers 2-3",
        "qwen3_5": "heads 2 of 8 dims; none in layer 1",
    }
    assert heads[run.config.model.family] in " ".join(out.split())
