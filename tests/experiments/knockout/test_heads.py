"""One grammar of heads: by variance, by name, by number, by rows; from Python as on the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.asking.head_sources import HeadSource
from kvtool.errors import UsageError
from kvtool.experiments.variance.run import variance
from kvtool.store import Run
from tests.support.planted import CONSTANT, planted_model, planted_pope

OPTIONS: dict[str, Any] = {"max_new_tokens": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    folder = tmp_path_factory.mktemp("heads")
    pope = planted_pope(folder / "pope")
    model = planted_model(folder)
    kvtool.extract(
        folder / "s.kv", model=str(model), dataset=f"pope:{pope}", kinds=("key", "value")
    )
    return kvtool.open(folder / "s.kv").run(), f"pope:{pope}"


def chosen(run: Run, heads: Any, threshold: float | None = None) -> set[tuple[int, int]]:
    head_set, _ = HeadSource.parse(heads, threshold).of(run)
    return set(head_set.selected)


@pytest.mark.slow
def test_heads_by_name_are_pairs(study: tuple[Run, str]) -> None:
    run, _ = study
    pairs = {(3, 1), (4, 0)}
    assert chosen(run, "3:1,4:0") == chosen(run, " 4:0 , 3:1") == pairs
    assert chosen(run, sorted(pairs)) == pairs
    assert chosen(run, "1") == {(layer, 1) for layer in range(6)}
    with pytest.raises(UsageError, match="expected layer from 0 to 5, found 6"):
        chosen(run, "6:0")


@pytest.mark.slow
def test_the_lowest_are_those_of_the_variance(study: tuple[Run, str]) -> None:
    run, _ = study
    ranked = sorted(variance(run).rows, key=lambda row: row["variance"])
    order = [(row["layer"], row["kv_head"]) for row in ranked]
    for count in (1, 5, 24):
        assert chosen(run, f"lowest:{count}") == set(order[:count])
    head_set, _ = HeadSource.parse("lowest:5", None).of(run)
    assert set(head_set.dependent) == set(order[5:])
    for count in (0, 25):
        with pytest.raises(UsageError, match="expected 1 to 24 keys"):
            chosen(run, f"lowest:{count}")


@pytest.mark.slow
def test_a_threshold_takes_the_place_of_the_valley(study: tuple[Run, str]) -> None:
    run, _ = study
    rows = variance(run).rows
    levels = sorted(row["variance"] for row in rows)
    assert chosen(run, "agnostic") == CONSTANT
    cut = (levels[9] + levels[10]) / 2
    below = {(row["layer"], row["kv_head"]) for row in rows if row["variance"] < cut}
    assert chosen(run, "agnostic", cut) == below != CONSTANT
    with pytest.raises(UsageError, match="has no input-agnostic key: every key is above"):
        chosen(run, "agnostic", levels[0] / 2 if levels[0] else -1.0)
    with pytest.raises(UsageError, match="--threshold: expected --heads agnostic beside it"):
        chosen(run, "lowest:3", 1.0)


@pytest.mark.slow
def test_the_command_says_what_was_asked_for(study: tuple[Run, str]) -> None:
    run, benchmark = study
    result = kvtool.knockout(run, benchmark, "lowest:3", controls=["dependent"], **OPTIONS)
    assert result.config["heads"] == "lowest:3"
    counts = {row["condition"]: row["n_heads"] for row in result.rows}
    assert counts["chosen"] == counts["dependent"] == 3
    by_cut = kvtool.knockout(run, benchmark, "agnostic", threshold=1e9, **OPTIONS)
    assert by_cut.config["threshold"] == 1e9
    assert by_cut.rows[2]["n_heads"] == 24
    assert Path(str(run.store)).name == "s.kv"
