"""The walk over the blocks of a run, which turns what a task measures into rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kvtool.features.layers import Layer
from kvtool.result import Row
from kvtool.store import Run
from kvtool.tasks.base import Array, BlockPlan, ChanceLevel, Scored, Table, table_rows
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch

Levels = Callable[[Run, Kind, Table], ChanceLevel | None]
"""The chance level of a table of a task on the grids of a run's kind, see kvtool.tasks.chance."""


def score_blocks(
    task: Scored,
    plan: BlockPlan,
    device: torch.device,
    select: str,
    seed: int,
    progress: Callable[..., None] | None,
    levels: Levels | None = None,
) -> tuple[list[Row], list[Row]]:
    """Rows of all blocks of a plan; and for select "split", the summary rows of the two halves of
    the units.

    A half's row holds what was found on the first half (to choose by) as `chosen_<metric>`, and the
    second half's scores. A block of which some image or text that the task reads holds values that
    are not finite has no scores (all None), but their number as `nonfinite`. With `levels` rows
    also say what knows nothing gets. Memory: what one layer needs (see Layer and the task); results
    are a few numbers a block.
    """
    rows: list[Row] = []
    split: list[Row] = []
    for kind, layers, heads in plan.blocks:
        for number in layers:
            # One layer is in memory at a time; its heads are scored together.
            layer = Layer(plan.run, kind, number, heads, device)
            measured = task.measure(layer)
            blocks = [{"kind": kind, "layer": number, "kv_head": head} for head in heads]
            # The summary comes first: halves are taken of it alone.
            tables = list(task.tables(measured))
            for table in tables:
                level = None if levels is None else levels(plan.run, kind, table)
                rows += table_rows(blocks, table, seed, layer.nonfinite, level, task.unit)
            # Blocks are chosen on one half and scored on the other: the choice biases no score.
            if select == "split":
                first, second = tables[0].halves(seed)
                level = None if levels is None else levels(plan.run, kind, second)
                half_rows = table_rows(blocks, second, seed, layer.nonfinite, level, task.unit)
                split += _with_chosen(half_rows, first, task.metric, layer.nonfinite)
            if progress is not None:
                progress(len(heads), f"{kind} layer {number}")
    return rows, split


def _with_chosen(rows: Sequence[Row], first: Table, metric: str, nonfinite: Array) -> list[Row]:
    """The second half's rows with what the blocks get on the first half."""
    first_scores = first.scores(first.units.sum(axis=1))[metric]
    # A block of NaN must not be chosen by a score that means nothing.
    finite_scores = np.where(nonfinite > 0, np.nan, first_scores)
    return [
        {**row, f"chosen_{metric}": float(value)}
        for row, value in zip(rows, finite_scores, strict=True)
    ]
