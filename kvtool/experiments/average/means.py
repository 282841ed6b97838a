"""Means of several tasks' scores, block by block, with intervals that carry each task's own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kvtool.result import Result, Row, best_row, is_summary
from kvtool.stats.bootstrap import Estimate, mean_over_tasks
from kvtool.store import Run
from kvtool.tasks.by_model import source_of
from kvtool.types import Block

SCORE = "score"
"""The mean of the tasks' primary metrics."""
CARRIED = ("chance", "chance_difference")
"""What is averaged beside it."""


class BaselineBlock(NamedTuple):
    """A projected or vision block of some model's run."""

    model: str
    kind: str
    layer: int
    kv_head: int


@dataclass(frozen=True)
class TaskScores:
    """What a probe says of a model on one task."""

    task: str
    run: Run
    result: Result

    @property
    def source(self) -> Hashable:
        """What scores are of: those of one data set share their images, whatever run holds them."""
        return source_of(self.run)

    @cached_property
    def blocks(self) -> dict[Block, Row]:
        """The summary row of each of the run's own blocks."""
        return {
            Block(row["kind"], row["layer"], row["kv_head"]): row
            for row in self.result.rows
            if is_summary(row) and "kv_head" in row
        }

    @cached_property
    def baselines(self) -> dict[BaselineBlock, Row]:
        """The rows of the projected and vision blocks of this and of other models."""
        return {
            BaselineBlock(row["model"], row["kind"], row["layer"], row["kv_head"]): row
            for row in self.result.baselines
        }

    @property
    def factor(self) -> float:
        """What makes the task's scores fractions: some tasks are scored in percent."""
        return 0.01 if self.result.unit == "percent" else 1.0

    def row(self, row: Row) -> Row:
        """Return what is averaged of one of the result's rows, as fractions."""
        names = dict.fromkeys(CARRIED) | {SCORE: None}
        fields = {name: self.result.metric if name == SCORE else name for name in names}
        scores: Row = {"n": row["n"]}
        for name, field in fields.items():
            for end in ("", "_low", "_high"):
                value = row.get(field + end)
                scores[name + end] = None if value is None else self.factor * value
        return scores


def mean_rows(scores: Sequence[Sequence[Row]], sources: Sequence[Hashable]) -> list[Row]:
    """Return the means over tasks of rows (task, block) from TaskScores.row.

    A score is None where it is undefined on some task, its interval where some task's is.
    """
    means: list[Row] = [
        {"n_tasks": len(scores), "n": sum(row["n"] for row in rows)}
        for rows in zip(*scores, strict=True)
    ]
    for name in (SCORE, *CARRIED):
        estimates = [_estimate(rows, name) for rows in scores]
        mean = mean_over_tasks(estimates, sources)
        for index, row in enumerate(means):
            for end, values in zip(("", "_low", "_high"), mean, strict=True):
                value = float(values[index])
                row[name + end] = None if np.isnan(value) else value
    return means


def _estimate(rows: Sequence[Row], name: str) -> Estimate:
    """Return a field of rows with its interval, NaN where there is none."""
    ends = (
        np.array([np.nan if row[name + end] is None else row[name + end] for row in rows])
        for end in ("", "_low", "_high")
    )
    return Estimate(*ends)


def block_means(scores: Sequence[TaskScores]) -> list[Row]:
    """Return the means of the blocks that all tasks score."""
    # A block counts where every task has it, so that all means are over the same tasks.
    common = [block for block in scores[0].blocks if all(block in task.blocks for task in scores)]
    rows = [[task.row(task.blocks[block]) for block in common] for task in scores]
    means = mean_rows(rows, [task.source for task in scores])
    return [
        {"kind": block.kind, "layer": block.layer, "kv_head": block.kv_head, **row}
        for block, row in zip(common, means, strict=True)
    ]


def baseline_means(scores: Sequence[TaskScores]) -> list[Row]:
    """Return the means of baselines, each over those tasks that have it."""
    blocks = dict.fromkeys(block for task in scores for block in task.baselines)
    rows = []
    # Baselines may be of fewer tasks, which n_tasks tells.
    for block in blocks:
        having = [task for task in scores if block in task.baselines]
        values = [[task.row(task.baselines[block])] for task in having]
        (mean,) = mean_rows(values, [task.source for task in having])
        rows.append({**block._asdict(), **mean})
    return rows


def best_of_layers(rows: Sequence[Row]) -> list[Row]:
    """Return the best row of each (model, subset, kind, layer)."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "subset", "kind", "layer"))
        groups.setdefault(key, []).append(row)
    bests = (best_row(group, SCORE) for group in groups.values())
    return [best for best in bests if best is not None]


def subsets(
    scores: Sequence[TaskScores], sets: Mapping[str, Sequence[str]]
) -> dict[str, list[TaskScores]]:
    """Return the tasks of each subset: each by itself, the sets of the paper, and all."""
    members_of: dict[str, list[TaskScores]] = {task.task: [task] for task in scores}
    for name, members in sets.items():
        # A set of the paper counts by the tasks of it that are there.
        if present := [task for task in scores if task.task in members]:
            members_of[name] = present
    return members_of | {"all": list(scores)}
