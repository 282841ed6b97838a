"""Scores of a run's blocks on a task, kept as they are made; beside them the baselines of other models' runs.

What other runs a store holds is no part of what a result was made of: a run that is added costs the scoring of its own
two kinds, and nothing of what was kept before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kvtool.errors import CorruptError, UsageError
from kvtool.result import Result, Row, best_row, is_summary, result_key, versions
from kvtool.store import Run, Store
from kvtool.tasks.base import BlockPlan, Task, nonfinite_lines, score_blocks
from kvtool.tasks.blocks import BASELINES, DECODER, baseline_plan, torch_device

if TYPE_CHECKING:
    import torch

NAMED = 10
"""How many reasons for what was left out a result names; all are counted."""


@dataclass
class Scoring:
    """One probe: the blocks of a plan on a task that is only made where something is not kept yet.

    config: all that the scores depend on. make_task: the task on a device.
    """

    store: Store
    plan: BlockPlan
    config: dict[str, Any]
    make_task: Callable[[torch.device], Task]
    device: str
    progress: Callable[..., None] | None

    @cached_property
    def where(self) -> torch.device:
        return torch_device(self.device)

    @cached_property
    def task(self) -> Task:
        return self.make_task(self.where)

    @cached_property
    def key(self) -> str:
        return result_key(self.config)

    @property
    def _images_key(self) -> str:
        return result_key(["images", self.config])

    def result(self, fresh: bool) -> Result:
        """The scores of the run's own blocks, as kept or computed and kept."""
        kept = None if fresh else self.store.load_result(self.key)
        if kept is not None:
            return Result.from_json(kept)
        result = self._score()
        keep_result(self.store, self.key, result)
        return result

    def _score(self) -> Result:
        run, task, seed = self.plan.run, self.task, self.config["seed"]
        select = self.config["select"]
        if select == "split" and task.n < 2:
            raise UsageError(
                f"{task.name}: --select split: expected two sampling units or more, found {task.n}; use max"
            )
        rows, halves = score_blocks(task, self.plan, self.where, select, seed, self.progress)
        return Result(
            command="probe",
            task=task.name,
            metric=task.metric,
            n=task.n,
            rows=rows,
            best=choose_best(rows, halves, task.metric),
            per_layer=per_layer(rows, task.metric),
            baselines=[_named(run, row) for row in rows if row["kind"] in BASELINES and is_summary(row)],
            config=self.config | task.settings() | {"baseline_runs": []},
            versions=versions(),
            n_skipped=task.n_skipped,
            skipped=[*nonfinite_lines(run, rows), *task.skipped][:NAMED],
        )

    def with_baselines(self, result: Result, others: Sequence[Run], fresh: bool) -> Result:
        """The result beside the baselines of other runs that hold all of the task's images.

        Those that it has already are taken as they are, others are scored, and the result is kept with them. A run
        that lacks images is said to be none.
        """
        images = self._images(fresh) if others else []
        ours = self.plan.run.images_hash(images)
        whole = [run for run in others if set(images) <= set(run.ids)]
        able = [run for run in whole if run.images_hash(images) == ours]
        entries = [[run.name, run.config.hash, run.images_hash(images)] for run in able]
        before = [] if fresh else result.config.get("baseline_runs", [])
        lines: list[str] = []
        if entries != before:
            rows = [row for row in result.baselines if row.get("run") == self.plan.run.name]
            for run, entry in zip(list(able), list(entries), strict=True):
                if entry in before:
                    rows += [row for row in result.baselines if row.get("run") == run.name]
                    continue
                try:
                    rows += self._of(run)
                except CorruptError as error:  # damage of a run stops no other
                    lines.append(f"run {run.name} is no baseline: {error}")
                    able.remove(run)
                    entries.remove(entry)
            result = replace(result, baselines=rows, config=result.config | {"baseline_runs": entries})
            keep_result(self.store, self.key, result)
        for run in able:
            lines += nonfinite_lines(run, [row for row in result.baselines if row.get("run") == run.name])
        lines += [
            f"run {run.name} is no baseline: it lacks {len(set(images) - set(run.ids))} of the images"
            for run in others
            if run not in whole
        ]
        lines += [
            f"run {run.name} is no baseline: its pictures are other ones"
            for run in whole
            if run.images_hash(images) != ours
        ]
        return replace(result, skipped=[*result.skipped, *lines][:NAMED]) if lines else result

    def _of(self, run: Run) -> list[Row]:
        """The summary rows of another run's projected and vision blocks."""
        rows, _ = score_blocks(self.task, baseline_plan(run), self.where, "max", self.config["seed"], self.progress)
        return [_named(run, row) for row in rows if is_summary(row)]

    def _images(self, fresh: bool) -> list[str]:
        """The images that the task reads, kept beside the result: to know them, the truth need not be read again."""
        kept = None if fresh else self.store.load_result(self._images_key)
        if kept is not None:
            return list(kept["ids"])
        ids = sorted(self.task.images())
        keep(self.store, self._images_key, {"kind": "images", "run": self.plan.run.name, "ids": ids})
        return ids


def keep_result(store: Store, key: str, result: Result) -> None:
    """A store that cannot be written, a colleague's or a full one, costs nobody the result."""
    keep(store, key, result.to_json())


def keep(store: Store, key: str, record: Mapping[str, Any]) -> None:
    """Keep a record; where the store cannot be written, say so and go on."""
    store.keep(key, dict(record))


def choose_best(rows: Sequence[Row], halves: Sequence[Row], metric: str) -> Row | None:
    """The best block of the decoder's kinds, or of all where there are none; with halves, chosen on the first half."""

    def eligible(found: Sequence[Row]) -> list[Row]:
        summary = [row for row in found if is_summary(row)]
        return [row for row in summary if row["kind"] in DECODER] or summary

    if not halves:
        best = best_row(eligible(rows), metric)
        return None if best is None else {**best, "select": "max"}
    best = best_row(eligible(halves), f"chosen_{metric}")
    return None if best is None else {**best, "select": "split"}


def per_layer(rows: Sequence[Row], metric: str) -> list[Row]:
    """The best row of each (kind, layer)."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if is_summary(row):
            groups.setdefault((row["kind"], row["layer"]), []).append(row)
    return [best for group in groups.values() if (best := best_row(group, metric)) is not None]


def _named(run: Run, row: Row) -> Row:
    return {"run": run.name, "model": run.config.model.name, **row}
