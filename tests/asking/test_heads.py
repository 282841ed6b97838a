"""Head sets: reading them, splitting them over the depth, drawing controls."""

from __future__ import annotations

import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from kvtool.asking.heads import (
    HeadCondition,
    HeadSet,
    head_set,
    make_conditions,
    read_rows,
)
from kvtool.errors import UsageError
from kvtool.layers import layer_groups, resolve_layers
from kvtool.types import Geometry

PAPER = Geometry(28, 28, 4, 128, 3584, 26, 1152)
SMALL = Geometry(6, 8, 4, 4, 32, 3, 24)


def taken(rows: list[dict[str, Any]], geometry: Geometry = SMALL) -> HeadSet:
    return head_set([(f"line {n}", row) for n, row in enumerate(rows, 1)], geometry, "f")


def test_groups_of_28_layers_are_the_papers() -> None:
    assert layer_groups(28) == {"early": range(8), "middle": range(8, 18), "late": range(18, 28)}


@pytest.mark.parametrize("n_layers", range(3, 81))
def test_groups_cover_any_depth_once(n_layers: int) -> None:
    groups = layer_groups(n_layers)
    assert [layer for group in groups.values() for layer in group] == list(range(n_layers))
    assert all(groups.values())


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, None),
        ("early", tuple(range(8))),
        ("late", tuple(range(18, 28))),
        ("last:10", tuple(range(18, 28))),
        ("last:99", tuple(range(28))),
        ((5, 2, 5), (2, 5)),
    ],
)
def test_layers(spec: Any, expected: tuple[int, ...] | None) -> None:
    assert resolve_layers(spec, 28) == expected


@pytest.mark.parametrize("spec", ["last", "last:0", "last:x", "end", (28,), (-1,), ()])
def test_bad_layers(spec: Any) -> None:
    with pytest.raises(UsageError, match=r"layers: expected .*, found"):
        resolve_layers(spec, 28)


def test_plain_rows_are_all_taken_and_the_rest_is_dependent() -> None:
    heads = taken(
        [
            {"layer": 2, "kv_head": 1},
            {"layer": 5, "kv_head": 0, "kind": "value"},
            {"layer": 2, "kv_head": 1},
        ]
    )
    assert heads.selected == {(2, 1), (5, 0)}
    assert len(heads.dependent) == 22
    assert not heads.selected & heads.dependent


def test_variance_rows_are_taken_where_true() -> None:
    judged = [(0, 0, True), (0, 1, False), (4, 2, True), (5, 3, None)]
    rows = [
        {"kind": "key", "layer": layer, "kv_head": head, "input_agnostic": is_}
        for layer, head, is_ in judged
    ]
    values = {"kind": "value", "layer": 3, "kv_head": 3, "input_agnostic": True}
    heads = taken([*rows, values])
    assert heads.selected == {(0, 0), (4, 2)}
    assert heads.dependent == {(0, 1)}


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"layer": 6, "kv_head": 0}, "line 1: expected layer from 0 to 5, found 6"),
        ({"layer": 0, "kv_head": 4}, "line 1: expected kv_head from 0 to 3, found 4"),
        ({"layer": -1, "kv_head": 0}, "line 1: expected layer from 0 to 5, found -1"),
        ({"layer": 1.0, "kv_head": 0}, "found 1.0"),
        ({"layer": True, "kv_head": 0}, "found true"),
        ({"layer": "1", "kv_head": 0}, 'found "1"'),
        ({"layer": 1}, "expected kv_head from 0 to 3, found no such field among layer"),
        ({"layer": 1, "kv_head": 0, "kind": "vision"}, "found kind 'vision'"),
        (
            {"layer": 1, "kv_head": 0, "input_agnostic": False},
            "found 1 rows and none of an input-agnostic key",
        ),
    ],
)
def test_bad_rows(row: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        taken([row])


def test_an_empty_set_is_said() -> None:
    with pytest.raises(UsageError, match="heads f: expected at least one head, found none"):
        taken([])


def test_lines_are_numbered_as_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"layer": 1, "kv_head": 2}\r\n\n{"layer": 3, "kv_head": 0}\n')
    expected = [(1, {"layer": 1, "kv_head": 2}), (3, {"layer": 3, "kv_head": 0})]
    assert read_rows(str(path)) == [
        (f"heads {path}: line {number}", row) for number, row in expected
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text("utf-8-sig")))
    assert [row for _, row in read_rows("-")] == [row for _, row in expected]


@pytest.mark.parametrize("line", ["{layer: 1}", "[1, 2]", "3", '{"layer": 1', "[" * 100_000])
def test_malformed_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "heads.jsonl"
    path.write_text(f'{{"layer": 1, "kv_head": 2}}\n{line}\n')
    with pytest.raises(UsageError, match=r"heads\.jsonl: line 2: expected (JSON|a JSON object)"):
        read_rows(str(path))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_files_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "heads.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"heads\.jsonl: expected .*, - or a readable file"):
        read_rows(str(path))


def paper_heads() -> HeadSet:
    """As many input-agnostic keys as the paper's: 20 early, 8 in the middle, 14 late."""
    early = [(layer, head) for layer in range(4) for head in range(4)] + [
        (layer, 0) for layer in range(4, 8)
    ]
    middle = [(layer, 1) for layer in range(8, 16)]
    late = [(layer, head) for layer in range(19, 26) for head in (0, 2)]
    return taken(
        [{"layer": layer, "kv_head": head} for layer, head in early + middle + late], PAPER
    )


def test_conditions_of_the_paper() -> None:
    conditions, notes = make_conditions(paper_heads(), PAPER, None, (), 1, 0)
    assert [(condition.name, len(condition.heads)) for condition in conditions] == [
        ("none", 0), ("chosen", 42), ("early", 20), ("middle", 8), ("late", 14),
    ]  # fmt: skip
    assert notes == []


def test_controls_are_as_many_of_the_same_layers() -> None:
    heads = paper_heads()
    conditions, _ = make_conditions(
        heads, PAPER, resolve_layers("last:10", 28), ("random", "dependent"), 5, 0
    )
    by_name: dict[str, list[HeadCondition]] = {}
    for condition in conditions:
        by_name.setdefault(condition.name, []).append(condition)
    assert list(by_name) == ["none", "chosen", "late", "random", "dependent"]
    assert [condition.draw for condition in by_name["random"]] == list(range(5))
    for condition in (*by_name["random"], *by_name["dependent"]):
        assert len(condition.heads) == 14
        assert {layer for layer, _ in condition.heads} <= set(range(18, 28))
    assert all(not condition.heads & heads.selected for condition in by_name["dependent"])
    assert any(condition.heads & heads.selected for condition in by_name["random"])
    assert len({condition.heads for condition in (*by_name["random"], *by_name["dependent"])}) == 10
    again, _ = make_conditions(
        heads, PAPER, resolve_layers("last:10", 28), ("dependent", "random"), 5, 0
    )
    assert set(again) == set(conditions)
    second, _ = make_conditions(
        heads, PAPER, resolve_layers("last:10", 28), ("dependent", "random"), 5, 1
    )
    assert set(second) != set(conditions)


def test_without_layers_controls_are_of_layers_that_hold_a_chosen_head() -> None:
    heads = taken([{"layer": 4, "kv_head": 1}, {"layer": 5, "kv_head": 2}])
    conditions, _ = make_conditions(heads, SMALL, None, ("dependent", "random"), 20, 0)
    control_heads = {head for condition in conditions[3:] for head in condition.heads}
    assert control_heads == {(layer, head) for layer in (4, 5) for head in range(4)}


def test_a_control_with_too_few_heads_takes_them_all_and_says_so() -> None:
    heads = taken([{"layer": 5, "kv_head": head} for head in range(3)])
    conditions, notes = make_conditions(heads, SMALL, None, ("dependent",), 2, 0)
    assert [condition.heads for condition in conditions if condition.name == "dependent"] == [
        frozenset({(5, 3)})
    ]
    assert notes[-2:] == [
        "control dependent: 1 heads to draw in these layers, not 3",
        "control dependent: distinct draws in these layers: 1, not 2",
    ]
    full = taken([{"layer": 5, "kv_head": head} for head in range(4)])
    conditions, notes = make_conditions(full, SMALL, None, ("dependent",), 2, 0)
    assert "dependent" not in {condition.name for condition in conditions}
    assert "0 heads" in notes[-1]


@pytest.mark.parametrize("n_heads", [1, 2, 3])
def test_no_control_is_the_chosen_heads_or_an_earlier_draw(n_heads: int) -> None:
    """Of a layer's four heads all sets but the chosen one are drawn, once."""
    heads = taken([{"layer": 5, "kv_head": head} for head in range(n_heads)])
    pool = [(5, head) for head in range(4)]
    expected = {frozenset(members) for members in combinations(pool, n_heads)} - {heads.selected}
    for seed in range(10):
        conditions, notes = make_conditions(heads, SMALL, None, ("random",), 9, seed)
        draws = [condition.heads for condition in conditions if condition.name == "random"]
        assert len(draws) == len(expected)
        assert set(draws) == expected
        assert notes[-1] == (
            f"control random: distinct draws in these layers: {len(expected)}, not 9"
        )
        first, _ = make_conditions(heads, SMALL, None, ("random",), 1, seed)
        assert first[-1].heads == draws[0] != heads.selected


def test_all_heads_leave_no_control() -> None:
    heads = taken([{"layer": 5, "kv_head": head} for head in range(4)])
    conditions, notes = make_conditions(heads, SMALL, None, ("random", "dependent"), 3, 0)
    assert not {"random", "dependent"} & {condition.name for condition in conditions}
    assert notes[-2:] == [
        f"control {name}: 0 heads to draw in these layers, not 4"
        for name in ("random", "dependent")
    ]


def test_bad_requests() -> None:
    heads = taken([{"layer": 5, "kv_head": 0}])
    with pytest.raises(
        UsageError, match="controls: expected some of dependent, random, found 'agnostic'"
    ):
        make_conditions(heads, SMALL, None, ("agnostic",), 1, 0)
    with pytest.raises(UsageError, match="draws: expected 1 or more, found 0"):
        make_conditions(heads, SMALL, None, (), 0, 0)
    with pytest.raises(UsageError, match="found none of them; chosen heads are in 5"):
        make_conditions(heads, SMALL, (0, 1), (), 1, 0)


def test_rows_travel_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(
        "".join(
            json.dumps({"layer": n, "kv_head": 0, "input_agnostic": n < 2}) + "\n" for n in range(6)
        )
    )
    assert head_set(read_rows(str(path)), SMALL, "v").selected == {(0, 0), (1, 0)}
