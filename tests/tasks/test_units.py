"""The unit of a task's scores says whether an interval has an edge to collapse at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.stats.proportions import wilson
from kvtool.store import Run
from kvtool.tasks.base import Array, BlockPlan, Scored, Table
from kvtool.tasks.walk import score_blocks
from tests.support.units import noise, sample, write_run

N = 12


class Flat:
    """A task whose first head scores 0 in every unit, and whose second the best of a share."""

    metric = "score"

    def __init__(self, unit: str, top: float) -> None:
        self.unit, self.top = unit, top

    def measure(self, layer: Any) -> Array:
        """Return (head, unit, 2)."""
        scores = np.array([0.0, self.top])[: len(layer.heads)]
        return np.stack([np.full((N, 2), (score, 1.0)) for score in scores])

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the mean over units."""
        yield Table({}, measured, lambda sums: {"score": sums[..., 0] / sums[..., 1]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("store")
    samples = [sample(str(i), i, (40, 40), (2, 2)) for i in range(2)]
    return write_run(folder / "s.kv", "folder", "all", folder, samples, noise(0))


def intervals(run: Run, task: Scored, select: str = "max") -> list[tuple[float, float]]:
    plan = BlockPlan(run, (("value", (0,), (0, 1)),))
    rows, halves = score_blocks(task, plan, torch.device("cpu"), select, 0, None)
    return [(row["score_low"], row["score_high"]) for row in (halves or rows)]


@pytest.mark.parametrize(("unit", "top"), [("fraction", 1.0), ("percent", 100.0)])
def test_a_share_has_wilsons_interval_at_its_edges(run: Run, unit: str, top: float) -> None:
    lowest, highest = intervals(run, Flat(unit, top))
    assert lowest == pytest.approx((0, top * wilson(0, N)[1]))
    assert highest == pytest.approx((top * wilson(N, N)[0], top))
    lowest, highest = intervals(run, Flat(unit, top), "split")
    assert lowest == pytest.approx((0, top * wilson(0, N // 2)[1]))
    assert highest == pytest.approx((top * wilson(N // 2, N // 2)[0], top))


@pytest.mark.parametrize("unit", ["m", "", "degrees"])
@pytest.mark.parametrize("select", ["max", "split"])
def test_an_error_in_a_physical_unit_has_no_edge(run: Run, unit: str, select: str) -> None:
    """An error of 0 m in every unit is no share of none: nothing says how large it could be."""
    assert intervals(run, Flat(unit, 1.0), select) == [(0, 0), (1, 1)]
