"""Scores of a run's blocks on a task, kept as they are made; beside them the baselines of other
models' runs.

What other runs a store holds is no part of what a result was made of: a run that is added costs the
scoring of its own two kinds, and nothing of what was kept before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kvtool import schema
from kvtool.errors import KvtoolError, UsageError
from kvtool.result import MAX_REASONS, Result, Row, best_row, is_summary, result_key, versions
from kvtool.store import Run, Store
from kvtool.store.shares import Share, chunk_name
from kvtool.tasks.base import BlockPlan, Task, nonfinite_lines
from kvtool.tasks.blocks import BASELINES, DECODER, baseline_plan, torch_device
from kvtool.tasks.chance import Chances, beside_chance
from kvtool.tasks.layer_shares import LayerShares, Rows
from kvtool.tasks.walk import score_blocks

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Images:
    """The record kept of the images that a task reads."""

    ids: list[str]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> _Images:
        """Raises CorruptError."""
        return schema.read(cls, record, "images")


@dataclass
class Scoring:
    """One probe: the blocks of a plan on a task that is only made where something is not kept yet.

    config: all that the scores depend on. make_task: the task on a device. share: what this process
    does of it, others being at it too. notes: lines about what the plan leaves out.
    """

    store: Store
    plan: BlockPlan
    config: dict[str, Any]
    make_task: Callable[[torch.device], Task]
    device: str
    progress: Callable[..., None] | None
    share: Share
    notes: list[str] = field(default_factory=list)

    @cached_property
    def compute_device(self) -> torch.device:
        """The device that scores."""
        return torch_device(self.device)

    @cached_property
    def task(self) -> Task:
        """The task, made when it is first needed."""
        return self.make_task(self.compute_device)

    @cached_property
    def chances(self) -> Chances:
        """What knows nothing gets on the task."""
        return Chances(self.task, self.config["seed"])

    @cached_property
    def key(self) -> str:
        """The key under which the store keeps the result."""
        return result_key(self.config)

    @property
    def _images_key(self) -> str:
        return result_key(["images", self.config])

    def result(self, other_runs: Sequence[Run], fresh: bool) -> Result:
        """The scores of the run's own blocks beside the baselines of other runs, as kept or
        computed and kept, by one process at a time. Raises BusyError where another one is at it;
        see Share.each.
        """

        def make() -> Result:
            result = None if fresh else self.store.kept(self.key, Result.from_json)
            # Own blocks are kept before baselines are looked at: damage in another run loses none.
            if result is None:
                result = keep_result(self.store, self.key, self._score())
                self._layers.drop()
            return self._with_baselines(result, other_runs, fresh)

        if not fresh:  # the layers come first, since several processes share them
            self._layers.do(lambda plan: self._walk(plan, None))
        name = chunk_name("scores", str(self.config["task"]), self.key)
        result = self.share.result(
            self.plan.run, name, lambda: None if fresh else self._whole(other_runs), make
        )
        return replace(result, skipped=[*result.skipped, *self.notes][:MAX_REASONS])

    def _whole(self, other_runs: Sequence[Run]) -> Result | None:
        """The result, where nothing has to be scored for it."""
        result = self.store.kept(self.key, Result.from_json)
        if result is None or (
            other_runs and self.store.kept(self._images_key, _Images.from_json) is None
        ):
            return None
        # Runs came or went since it was kept: the baselines have to be done again.
        _, entries = self._baseline_runs(
            other_runs, self._images(fresh=False) if other_runs else []
        )
        if entries != result.config.get("baseline_runs", []):
            return None
        return self._with_baselines(result, other_runs, fresh=False)

    def _score(self) -> Result:
        run, task = self.plan.run, self.task
        select = self.config["select"]
        if select == "split" and task.n < 2:
            raise UsageError(
                f"{task.name}: --select split: expected two sampling units or more, found "
                f"{task.n}; use max"
            )
        rows, halves = self._layers.joined() or self._walk(self.plan, self.progress)
        for kind, _, _ in self.plan.blocks:  # where others scored its layers
            self.chances.on_grids(run, kind)
        result = Result(
            command="probe",
            task=task.name,
            metric=task.metric,
            n=task.n,
            rows=rows,
            best=choose_best(rows, halves, task.metric, task.higher_is_better),
            per_layer=per_layer(rows, task.metric, task.higher_is_better),
            baselines=[
                _named(run, row) for row in rows if row["kind"] in BASELINES and is_summary(row)
            ],
            config=self.config | task.settings() | {"baseline_runs": []},
            versions=versions(),
            n_skipped=task.n_skipped,
            n_unusable=getattr(task, "n_unusable", 0),  # tasks of plug-ins may not say
            skipped=[*nonfinite_lines(run, rows), *task.skipped][:MAX_REASONS],
            unit=task.unit,
            higher_is_better=task.higher_is_better,
            chance=list(self.chances.rows),
        )
        if result.best is None:
            return result
        # The best was chosen among these alone: baselines are no candidates.
        n_blocks = len(eligible(rows))
        return replace(result, best=beside_chance(result.best, result, n_blocks, select))

    @cached_property
    def _layers(self) -> LayerShares:
        common = (str(self.config["task"]), self.key, self.share, self.progress)
        return LayerShares(self.store, self.plan, *common)

    def _walk(self, plan: BlockPlan, progress: Callable[..., None] | None) -> Rows:
        settings = (self.config["select"], self.config["seed"], progress, self.chances.of)
        return score_blocks(self.task, plan, self.compute_device, *settings)

    def _baseline_runs(
        self, other_runs: Sequence[Run], images: Sequence[str]
    ) -> tuple[list[Run], list[list[str]]]:
        """The runs that hold all of these images with the same pictures, and what a result records
        of each as a baseline.
        """
        # Under one id runs may hold other pictures: hashes compare them.
        ours = self.plan.run.images_hash(images)
        complete = [run for run in other_runs if set(images) <= _held(run)]
        baselines = [run for run in complete if run.images_hash(images) == ours]
        return baselines, [[run.name, run.config.hash, ours] for run in baselines]

    def _with_baselines(self, result: Result, other_runs: Sequence[Run], fresh: bool) -> Result:
        """The result beside the baselines of other runs that hold all of the task's images.

        Those that it has already are taken as they are, others are scored, and the result is kept
        with them. A run that lacks images is said to be none.
        """
        images = self._images(fresh) if other_runs else []
        baselines, entries = self._baseline_runs(other_runs, images)
        before = [] if fresh else result.config.get("baseline_runs", [])
        lines: list[str] = []
        # Only runs that came or changed are scored; the rows of others are taken over.
        if entries != before:
            rows = [row for row in result.baselines if row.get("run") == self.plan.run.name]
            for run, entry in zip(list(baselines), list(entries), strict=True):
                if entry in before:
                    rows += [row for row in result.baselines if row.get("run") == run.name]
                    continue
                try:
                    rows += self._of(run)
                except KvtoolError as error:  # damage or a lack of texts of a run stops no other
                    lines.append(f"run {run.name} is no baseline: {error}")
                    baselines.remove(run)
                    entries.remove(entry)
            result = replace(
                result, baselines=rows, config=result.config | {"baseline_runs": entries}
            )
            keep_result(self.store, self.key, result)
        for run in baselines:
            lines += nonfinite_lines(
                run, [row for row in result.baselines if row.get("run") == run.name]
            )
        lines += self._unfit(other_runs, images)
        return replace(result, skipped=[*result.skipped, *lines][:MAX_REASONS]) if lines else result

    def _unfit(self, other_runs: Sequence[Run], images: Sequence[str]) -> list[str]:
        """Say which runs are no baselines, since they lack images or hold other pictures."""
        complete = [run for run in other_runs if set(images) <= _held(run)]
        ours = self.plan.run.images_hash(images)
        lines = [
            f"run {run.name} is no baseline: it lacks {len(set(images) - _held(run))} of the images"
            for run in other_runs
            if run not in complete
        ]
        lines += [
            f"run {run.name} is no baseline: its pictures are other ones"
            for run in complete
            if run.images_hash(images) != ours
        ]
        return lines

    def _of(self, run: Run) -> list[Row]:
        """The summary rows of another run's projected and vision blocks."""
        settings = ("max", self.config["seed"], self.progress, self.chances.of)
        plan = baseline_plan(run, self.task.kinds)
        rows, _ = score_blocks(self.task, plan, self.compute_device, *settings)
        return [_named(run, row) for row in rows if is_summary(row)]

    def _images(self, fresh: bool) -> list[str]:
        """The images that the task reads, kept beside the result: to know them, the truth need not
        be read again.
        """
        record = None if fresh else self.store.kept(self._images_key, _Images.from_json)
        if record is not None:
            return record.ids
        ids = sorted(self.task.images())
        keep(
            self.store, self._images_key, {"kind": "images", "run": self.plan.run.name, "ids": ids}
        )
        return ids


def _held(run: Run) -> set[str]:
    """Return the ids of the pictures that a run holds, of its videos those of the frames."""
    return {view.id for view in run.views}


def keep_result(store: Store, key: str, result: Result) -> Result:
    """A store that cannot be written, a colleague's or a full one, costs nobody the result."""
    keep(store, key, result.to_json())
    return result


def keep(store: Store, key: str, record: Mapping[str, Any]) -> None:
    """Keep a record; where the store cannot be written, say so and go on."""
    store.keep(key, dict(record))


def eligible(rows: Sequence[Row]) -> list[Row]:
    """The summary rows among which the best is chosen: the decoder's kinds, or all where there are
    none.
    """
    summary = [row for row in rows if is_summary(row)]
    return [row for row in summary if row["kind"] in DECODER] or summary


def choose_best(
    rows: Sequence[Row], halves: Sequence[Row], metric: str, higher_is_better: bool = True
) -> Row | None:
    """The best block of the decoder's kinds, or of all where there are none; with halves, chosen on
    the first half.
    """
    if not halves:
        best = best_row(eligible(rows), metric, higher_is_better)
        return None if best is None else {**best, "select": "max"}
    # Chosen by the first half's score; the row's own scores are those of the second.
    best = best_row(eligible(halves), f"chosen_{metric}", higher_is_better)
    return None if best is None else {**best, "select": "split"}


def per_layer(rows: Sequence[Row], metric: str, higher_is_better: bool = True) -> list[Row]:
    """The best row of each (kind, layer)."""
    # Rows by category are no blocks of their own.
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if is_summary(row):
            groups.setdefault((row["kind"], row["layer"]), []).append(row)
    bests = (best_row(group, metric, higher_is_better) for group in groups.values())
    return [best for best in bests if best is not None]


def _named(run: Run, row: Row) -> Row:
    return {"run": run.name, "model": run.config.model.name, **row}
