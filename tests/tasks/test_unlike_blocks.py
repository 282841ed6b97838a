"""Blocks and heads of runs whose layers differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvtool.asking.caches import cache_kinds, is_whole
from kvtool.asking.head_sources import HeadSource
from kvtool.asking.heads import head_set, make_conditions
from kvtool.errors import UsageError
from kvtool.models.knockout import group_heads
from kvtool.reporting.commands import block_flags
from kvtool.reporting.heatmap import gap_note
from kvtool.store import Run
from kvtool.store.provenance import describe_run
from kvtool.tasks.blocks import plan_blocks
from tests.support.runs import GEOMETRY, MODEL, new_run

UNLIKE = replace(
    GEOMETRY,
    kv_heads=2,
    head_dim=16,
    by_layer=((2, 8), (1, 16), (0, 0), (2, 8), (0, 0)),
    recurrent=(2,),
)
LAYERS = (0, 1, 2, 3, 4)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return new_run(tmp_path, model=replace(MODEL, geometry=UNLIKE), layers=LAYERS)


def test_layers_with_as_many_heads_are_planned_together(run: Run) -> None:
    plan = plan_blocks(run, ["key"], None, None)
    assert plan.blocks == (("key", (0, 3), (0, 1)), ("key", (1,), (0,)))
    assert (plan.layers, plan.heads) == ((0, 1, 3), (0, 1))
    assert plan.heads_at("key", 1) == (0,)
    assert plan.heads_at("key", 2) == ()


def test_layers_without_keys_and_values_are_passed_over(run: Run) -> None:
    assert plan_blocks(run, ["key"], [1, 2, 4], None).blocks == (("key", (1,), (0,)),)
    assert plan_blocks(run, ["value"], "late", [1]).blocks == (("value", (3,), (1,)),)
    with pytest.raises(UsageError, match=r"layer 2 is of linear attention .* some of 0, 1, 3"):
        plan_blocks(run, ["key"], [2, 4], None)
    with pytest.raises(UsageError, match="key has no kv_head 2"):
        plan_blocks(run, ["key"], None, [2])


def test_results_and_maps_say_which_heads_there_are(run: Run) -> None:
    heads = "2 of 8 dims in layers 0, 3; 1 of 16 dims in layer 1; none in layers 2, 4"
    assert describe_run(run)["heads_by_layer"] == heads == run.info()["heads"]
    assert gap_note(describe_run(run)) == f"heads: {heads}"
    assert gap_note({}) == ""


def test_a_command_names_each_kind_once(run: Run) -> None:
    blocks = [
        {"kind": "value", "layers": [0, 3], "kv_heads": [0, 1]},
        {"kind": "value", "layers": [1], "kv_heads": [0]},
        {"kind": "projected", "layers": [0], "kv_heads": [0]},
    ]
    info = run.info() | {"kv_heads": 2}
    assert block_flags(blocks, info) == ["--kinds", "value,projected"]


def test_heads_are_those_of_each_layer() -> None:
    assert {n: mask.tolist() for n, mask in group_heads([(0, 1), (1, 0)], UNLIKE).items()} == {
        0: [False, False, True, True],
        1: [True] * 4,
    }
    for head, message in (
        ((2, 0), "layer 2 is of linear attention .* one of 0, 1, 3"),
        ((4, 0), "layer 4 reads those of another"),
        ((1, 1), "expected kv_head from 0 to 0 in this model, found 1"),
    ):
        with pytest.raises(UsageError, match=message):
            group_heads([head], UNLIKE)
        row = [("row 1", {"layer": head[0], "kv_head": head[1]})]
        with pytest.raises(UsageError, match=r"row 1: .*(layer \d|kv_head)"):
            head_set(row, UNLIKE, "given")


def test_numbers_are_blocked_in_every_layer_that_has_them(run: Run) -> None:
    heads, _ = HeadSource.parse("1", None).of(run)
    assert heads.selected == {(0, 1), (3, 1)}
    with pytest.raises(UsageError, match="expected kv_head from 0 to 1, found 2"):
        HeadSource.parse("2", None).of(run)


def test_linear_attention_is_told_and_needs_the_projected_tokens(run: Run) -> None:
    rows = [("row 1", {"layer": 0, "kv_head": 0})]
    conditions, notes = make_conditions(
        head_set(rows, UNLIKE, "given"), UNLIKE, None, ["random"], 1, 0
    )
    assert notes[-1].startswith("layer 2 of linear attention: no heads to block")
    assert {layer for layer, _ in conditions[-1].heads} == {0}
    assert cache_kinds(UNLIKE) == ("key", "value", "projected")
    assert cache_kinds(GEOMETRY) == ("key", "value")
    assert is_whole(run.config)
    assert not is_whole(replace(run.config, kinds=("key", "value")))
    assert is_whole(replace(run.config, layers=(0, 1, 3)))
