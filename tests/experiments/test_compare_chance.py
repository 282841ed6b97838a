"""Runs compared, beside what knows nothing on the grids of either."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import kvtool
from kvtool.reporting.emit import emit
from kvtool.reporting.sentences import sentences_of
from kvtool.result import Row
from kvtool.store import Store
from tests.support.comparisons import TASK, row_of, write_runs
from tests.support.tasks.semantic_correspondence import write_spair
from tests.support.units import PLANTED

LEVEL = ("chance", "chance_low", "chance_high", "chance_kind")


def planted_row(store: Store, run: str) -> Row:
    """The probe's row of the planted block."""
    probed = kvtool.probe(store.run(run), TASK, kinds=["value"], layers=[PLANTED[0]])
    (row,) = [
        row
        for row in probed.rows
        if row["kv_head"] == PLANTED[1] and not {"alpha", "category"} & row.keys()
    ]
    return row


@pytest.mark.slow
def test_both_scores_stand_beside_chance(tmp_path: Path) -> None:
    store = write_runs(tmp_path / "s.kv", write_spair(tmp_path / "spair"))
    result = kvtool.compare(store, ["half", "full"], TASK, kinds=["value"], layers=[PLANTED[0]])
    row = row_of(result, "full", "block", PLANTED)
    for side, run in (("", "full"), ("base_", "half")):
        probed = planted_row(store, run)
        assert [row[f"{side}{name}"] for name in LEVEL] == [probed[name] for name in LEVEL]
    best = row_of(result, "full", "best")
    assert best["chance_difference_low"] > 0
    out = io.StringIO()
    emit(result, "table", out)
    text = " ".join(out.getvalue().split())
    assert f"Chance for both: {best['chance_kind']}, {100 * best['chance']:.1f} [" in text
    assert any(line.startswith("Chance for both: ") for line in sentences_of(result))
