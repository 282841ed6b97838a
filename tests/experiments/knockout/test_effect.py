"""Knockout from questions to scores: a planted effect, and the table that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import UsageError
from kvtool.experiments.variance.run import variance
from kvtool.reporting.emit import emit
from kvtool.stats.proportions import wilson
from tests.experiments.knockout.asked import CONTROLS, OPTIONS, by_condition
from tests.support.planted import CONSTANT, NOISY


@pytest.mark.slow
@pytest.mark.parametrize("layers", [None, "late", (4, 5)])
def test_knocking_out_the_planted_heads_restores_the_answers(
    store: Path, pope: Path, layers: Any
) -> None:
    result = kvtool.knockout(
        store,
        f"pope:{pope}",
        sorted(NOISY),
        layers=layers,
        controls=CONTROLS,
        draws=4,
        seed=3,
        **OPTIONS,
    )
    rows = by_condition(result)
    assert list(rows) == ["random", "dependent", "late", "chosen", "none"]
    assert {name: row["accuracy"] for name, row in rows.items() if name != "random"} == {
        "none": 0.5, "chosen": 1.0, "late": 1.0, "dependent": 0.5,
    }  # fmt: skip
    # A drawn pair may hold one of the noisy heads; the other one is still loud enough.
    conditions = result.config["conditions"]
    controls = [entry["heads"] for entry in conditions if entry["condition"] == "random"]
    assert all({tuple(head) for head in heads} != NOISY for heads in controls)
    assert rows["random"]["accuracy"] == 0.5
    assert rows["none"]["yes_ratio"] == rows["chosen"]["yes_ratio"] == 0.5
    assert rows["chosen"] | {"n": 48, "n_lost": 0, "n_gained": 24, "n_heads": 2} == rows["chosen"]
    assert rows["chosen"]["mcnemar_p"] == pytest.approx(2 * 0.5**24, rel=1e-9)
    # Eight of eight pictures are not certainty: Wilson's interval of them.
    assert rows["chosen"]["f1_low"] == pytest.approx(0.676, abs=1e-3)
    assert rows["chosen"]["f1_high"] == 1.0
    # All of them lie in late layers: `late` is the same condition, and counts once.
    assert rows["late"]["mcnemar_holm_p"] == rows["chosen"]["mcnemar_p"]
    assert (rows["chosen"]["n_pictures"], rows["chosen"]["n_distinct"]) == (8, 48)
    # Of each of eight pictures half the questions are right: resamples are alike, pictures need
    # not be.
    _, share = wilson(0, 8)
    ends = (rows["none"]["accuracy_low"], rows["none"]["accuracy_high"])
    assert ends == pytest.approx((0.5 * (1 - share), 0.5 * (1 + share)))
    # Always yes has two thirds of the F1 that there is; the planted heads exceed it.
    assert rows["chosen"]["chance_kind"] == "always yes"
    assert rows["chosen"]["chance"] == pytest.approx(2 / 3)
    assert (rows["chosen"]["exceeds_chance"], rows["none"]["exceeds_chance"]) == (True, False)


@pytest.mark.slow
def test_input_agnostic_keys_are_found_and_blocked(
    store: Path, pope: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, and as rows through a pipe."""
    result = kvtool.knockout(
        store, f"pope:{pope}", "agnostic", layers="late", controls=["dependent"], **OPTIONS
    )
    heads = {
        condition["condition"]: {tuple(h) for h in condition["heads"]}
        for condition in result.config["conditions"]
    }
    assert heads["chosen"] == heads["late"] == NOISY
    assert not heads["dependent"] & CONSTANT
    rows = by_condition(result)
    assert {name: row["accuracy"] for name, row in rows.items()} == {
        "none": 0.5, "chosen": 1.0, "late": 1.0, "dependent": 0.5,
    }  # fmt: skip
    emit(variance(kvtool.open(store).run()), "jsonl")
    lines = capsys.readouterr().out
    assert lines.count("\n") == 24
    (tmp_path / "v.jsonl").write_text(lines)
    piped = kvtool.knockout(
        store, f"pope:{pope}", tmp_path / "v.jsonl", controls=["dependent"], **OPTIONS
    )
    assert by_condition(piped)["early"]["n_heads"] == 4
    assert {tuple(h) for h in piped.config["conditions"][1]["heads"]} == CONSTANT


@pytest.mark.slow
def test_no_input_agnostic_key_is_said(tmp_path: Path, tiny_model: Path, pope: Path) -> None:
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"pope:{pope}")
    with pytest.raises(
        UsageError, match=r"heads agnostic: run .* has no input-agnostic key: not bimodal"
    ):
        kvtool.knockout(tmp_path / "s.kv", f"pope:{pope}", "agnostic", **OPTIONS)


@pytest.mark.slow
def test_one_noisy_head_alone_changes_nothing(store: Path, pope: Path) -> None:
    rows = by_condition(kvtool.knockout(store, f"pope:{pope}", [(4, 1)], **OPTIONS))
    assert rows["chosen"]["accuracy"] == 0.5
    assert (rows["chosen"]["n_lost"], rows["chosen"]["n_gained"], rows["chosen"]["mcnemar_p"]) == (
        0,
        0,
        1.0,
    )


@pytest.mark.slow
def test_blocking_every_head_leaves_the_question(store: Path, pope: Path) -> None:
    heads = [(layer, head) for layer in range(6) for head in range(4)]
    rows = by_condition(kvtool.knockout(store, f"pope:{pope}", heads, **OPTIONS))
    assert {name: row["accuracy"] for name, row in rows.items()} == {
        "none": 0.5, "chosen": 1.0, "early": 0.5, "middle": 0.5, "late": 1.0,
    }  # fmt: skip


@pytest.mark.slow
def test_pre_rope_keys_and_the_full_view_answer_too(
    tmp_path: Path, model: Path, pope: Path
) -> None:
    settings: list[dict[str, Any]] = [{"keys": "pre-rope"}, {"view": "full"}]
    for options in settings:
        path = tmp_path / f"{next(iter(options))}.kv"
        kvtool.extract(path, model=str(model), dataset=f"pope:{pope}", **options)
        rows = by_condition(kvtool.knockout(path, f"pope:{pope}", sorted(NOISY), **OPTIONS))
        assert (rows["none"]["accuracy"], rows["chosen"]["accuracy"]) == (0.5, 1.0)


@pytest.mark.slow
def test_the_table_has_a_line_for_each_condition(
    store: Path, pope: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(
        kvtool.knockout(
            store, f"pope:{pope}", sorted(NOISY), controls=CONTROLS, draws=2, **OPTIONS
        ),
        "table",
    )
    printed = capsys.readouterr().out.splitlines()
    none_line, chosen_line = (
        line for line in printed if line.split()[:1] in (["none"], ["chosen"])
    )
    assert (none_line.split()[1:3], none_line.split()[-1]) == (["0", "50.0"], "50.0")
    # Eight pictures all change: of 256 ways to swap two are as far apart. Holm's, then McNemar's.
    assert chosen_line.split() == [
        "chosen", "2", "100.0", "[67.6,", "100.0]", "50.0", "0.006", "0.006", "<", "0.0001",
    ]  # fmt: skip
    assert [line.split()[1] for line in printed if line.split()[:1] == ["random"]] == [
        "2",
        "0",
        "1",
    ]
    assert max(map(len, printed)) <= 80
