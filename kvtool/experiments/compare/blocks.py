"""All blocks of several runs on one task, layer by layer: differences of blocks that two runs have,
and each run's best one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvtool.features.layers import Layer
from kvtool.progress import Progress
from kvtool.result import Row, metric_names
from kvtool.store import Run
from kvtool.tasks.base import Array, BlockPlan, Table, Task, table_rows
from kvtool.tasks.blocks import DECODER
from kvtool.tasks.chance import Chances
from kvtool.tasks.differences import difference_p, differences
from kvtool.types import Block, Kind

if TYPE_CHECKING:
    import torch


BESIDE = ("chance", "chance_low", "chance_high", "chance_kind")
"""What a row says of chance for the first run's block, which may lie on other grids."""


class LayerUnits(NamedTuple):
    """A layer of a run: its heads, the task's summary table over them, and how many values of each
    are not finite (head,).
    """

    kind: Kind
    layer: int
    heads: tuple[int, ...]
    table: Table
    nonfinite: Array

    def narrowed(self, heads: Sequence[int]) -> LayerUnits:
        """Return the same for some of the heads, in their order."""
        indices = [self.heads.index(head) for head in heads]
        table = self.table._replace(units=self.table.units[indices])
        return self._replace(heads=tuple(heads), table=table, nonfinite=self.nonfinite[indices])


@dataclass
class Leader:
    """The best block of a run so far, among the decoder's kinds (True) and among others (False).

    Attributes:
        metric: the score that decides.
        sign: 1 where a higher one is better, else -1.
        select: "split" chooses on the one half of the units and keeps the other.
        seed: the random seed of the halves.
    """

    metric: str
    sign: int
    select: str
    seed: int
    _best: dict[bool, tuple[float, Block, Table]] = field(default_factory=dict)

    def offer(self, units: LayerUnits) -> None:
        """Look at the blocks of one layer; of equals the first remains."""
        choosing = scored = units.table
        if self.select == "split":
            choosing, scored = units.table.halves(self.seed)
        scores = self.sign * choosing.scores(choosing.units.sum(axis=1))[self.metric]
        # A block whose score is undefined is never the best.
        scores = np.where(np.isnan(scores) | (units.nonfinite > 0), -np.inf, scores)
        index = int(np.argmax(scores))
        # The decoder's best block and that of the baselines are chosen apart.
        group = units.kind in DECODER
        if not np.isfinite(scores[index]):
            return
        if group not in self._best or scores[index] > self._best[group][0]:
            block = Block(units.kind, units.layer, units.heads[index])
            # A copy: a view would hold the units of all heads.
            table = scored._replace(units=scored.units[index : index + 1].copy())
            self._best[group] = float(scores[index]), block, table

    @property
    def best(self) -> tuple[Block, Table] | None:
        """The best block with its units, of the decoder's kinds where there are any."""
        best = self._best.get(True) or self._best.get(False)
        return None if best is None else best[1:]


@dataclass
class ComparedBlocks:
    """Several runs' blocks on one task over the same units; the first run is what others are
    compared with.

    Attributes:
        leaders: the best block of each run, once `rows` has walked over all.
    """

    task: Task
    plans: Sequence[BlockPlan]
    device: torch.device
    select: str
    seed: int
    leaders: dict[str, Leader] = field(default_factory=dict)

    @cached_property
    def chances(self) -> Chances:
        """What knows nothing gets on the task."""
        return Chances(self.task, self.seed)

    @property
    def base(self) -> Run:
        """The run that others are compared with."""
        return self.plans[0].run

    def rows(self, progress: Progress) -> Iterator[Row]:
        """Yield a row for each block that a run has in common with the first one.

        Every layer of every run is measured once; in memory are those of one (kind, layer).
        """
        # Where lower is better, scores change their sign: the best is the highest.
        sign = 1 if self.task.higher_is_better else -1
        for plan in self.plans:
            self.leaders[plan.run.name] = Leader(self.task.metric, sign, self.select, self.seed)
        for kind, layer in _layers(self.plans):
            units_by_run: dict[str, LayerUnits] = {}
            for plan in self.plans:
                units = self._measure(plan, kind, layer)
                if units is None:
                    continue
                units_by_run[plan.run.name] = units
                self.leaders[plan.run.name].offer(units)
                progress(len(units.heads), f"{plan.run.name}: {kind} layer {layer}")
            # The first run's layer, which each of the others is set beside.
            without = units_by_run.pop(self.base.name, None)
            for plan in self.plans:
                ours = units_by_run.get(plan.run.name)
                if ours is not None and without is not None:
                    yield from self._common(plan.run, ours, without)

    def best_rows(self) -> Iterator[Row]:
        """Yield a row for each other run: its best block against the first run's best one."""
        base_best = self.leaders[self.base.name].best
        for plan in self.plans[1:]:
            best = self.leaders[plan.run.name].best
            if best is None or base_best is None:
                continue
            (block, table), (base_block, base_table) = best, base_best
            labels = self._labels(plan.run.name, "best")
            base_fields = {f"base_{name}": value for name, value in asdict(base_block).items()}
            sides = (plan.run, block.kind), (self.base, base_block.kind)
            (row,) = self._paired([asdict(block)], table, base_table, np.zeros(1), sides)
            yield {**labels, **row, **base_fields}

    def _common(self, run: Run, units: LayerUnits, without: LayerUnits) -> Iterator[Row]:
        """Yield the rows of one layer's blocks that both runs have."""
        heads = [head for head in units.heads if head in without.heads]
        if not heads:
            return
        ours, base_units = units.narrowed(heads), without.narrowed(heads)
        blocks: list[Row] = [
            {"kind": units.kind, "layer": units.layer, "kv_head": head} for head in heads
        ]
        # A value that is not finite in either block leaves nothing to compare.
        nonfinite = ours.nonfinite + base_units.nonfinite
        sides = (run, units.kind), (self.base, units.kind)
        for row in self._paired(blocks, ours.table, base_units.table, nonfinite, sides):
            yield {**self._labels(run.name, "block"), **row}

    def _labels(self, run: str, choice: str) -> Row:
        return {"run": run, "base": self.base.name, "choice": choice}

    def _paired(
        self,
        blocks: Sequence[Row],
        ours: Table,
        without: Table,
        nonfinite: Array,
        sides: Sequence[tuple[Run, Kind]],
    ) -> Iterator[Row]:
        """Yield for each block both scores beside chance, their difference and its p.

        `sides` are the run and the kind that the blocks and the others are of.
        """
        metric = self.task.metric
        scores, base_scores = (
            table_rows(
                blocks,
                table,
                self.seed,
                nonfinite,
                self.chances.of(run, kind, table),
                self.task.unit,
            )
            for table, (run, kind) in zip((ours, without), sides, strict=True)
        )
        # The difference has an interval of its own, from resamples that both blocks share.
        paired = differences(ours, without, metric, self.seed, nonfinite)
        for index, (row, base_row, gap) in enumerate(zip(scores, base_scores, paired, strict=True)):
            head = slice(index, index + 1)
            # A swap is drawn by the same seed for every block, so that a block's p does not depend
            # on which others are compared.
            p = difference_p(
                ours._replace(units=ours.units[head]),
                without._replace(units=without.units[head]),
                metric,
                gap,
                self.seed,
            )
            yield _beside(row, base_row, metric) | gap | {"p": p}

    def _measure(self, plan: BlockPlan, kind: Kind, layer: int) -> LayerUnits | None:
        """Return a layer's units; None where the plan has no such layer."""
        for planned_kind, layers, heads in plan.blocks:
            if planned_kind == kind and layer in layers:
                vectors = Layer(plan.run, kind, layer, heads, self.device)
                # The summary comes first; rows by category are no part of a comparison.
                table = next(iter(self.task.tables(self.task.measure(vectors))))
                return LayerUnits(kind, layer, tuple(heads), table, vectors.nonfinite)
        return None


def _beside(row: Row, base_row: Row, metric: str) -> Row:
    """Return a block's row with its primary score alone, and that of the block beside it."""
    ends = ("", "_low", "_high")
    # Further scores would stand there without their differences.
    secondary = {name + end for name in metric_names(row) for end in ends}
    secondary -= {metric + end for end in ends}
    primary = {name: value for name, value in row.items() if name not in secondary}
    base_score = {f"base_score{end}": base_row[metric + end] for end in ends}
    base_score |= {
        f"base_{name}": base_row[name] for name in BESIDE if base_row.get(name) is not None
    }
    return primary | base_score


def _layers(plans: Sequence[BlockPlan]) -> list[tuple[Kind, int]]:
    """Return every (kind, layer) that some plan has, each once."""
    pairs: dict[tuple[Kind, int], None] = {}
    for plan in plans:
        for kind, layers, _ in plan.blocks:
            pairs |= dict.fromkeys((kind, layer) for layer in layers)
    return list(pairs)
