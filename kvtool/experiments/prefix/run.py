"""`kvtool prefix`: what a text before the image does to what the image's tokens hold (paper,
section 4.1, table 4).

Every condition is a run of its own over the same images. Its score is that of its own best block,
and that of the best block without prefix; the difference to the latter's score without prefix is
paired, unit by unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.asking.caches import silent
from kvtool.bounds import checked
from kvtool.digests import digest_texts
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.prefix.conditions import (
    PrefixCondition,
    Progress,
    condition_names,
    condition_run,
    extract_base,
    find_base,
    make_condition,
    open_data,
)
from kvtool.features.layers import Layer
from kvtool.result import Result, Row, result_key, versions
from kvtool.store import Run
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.select import Target, select_store
from kvtool.store.shares import Share, sharing
from kvtool.tasks import TASKS
from kvtool.tasks.base import Array, Select, Table, Task, halves, nonfinite_lines, table_rows
from kvtool.tasks.blocks import DECODER, plan_blocks, torch_device
from kvtool.tasks.evaluation import count_blocks, evaluate, own_options
from kvtool.tasks.scoring import keep_result
from kvtool.tasks.truth import sizes_of
from kvtool.types import Block, Kind

if TYPE_CHECKING:
    import torch

PROMPTABLE = ("referring-expression", "semantic-correspondence", "semantic-segmentation")
"""Tasks of the paper's table 4."""
NAMED = 10
"""How many left-out images are named; all are counted."""


@checked
def prefix(
    target: Target,
    task: str,
    *,
    conditions: Sequence[str] | None = None,
    prefix: Sequence[str] = (),
    kinds: Sequence[Kind] = ("value",),
    layers: Sequence[int] | None = None,
    select: str = "max",
    limit: int | None = None,
    run: str | None = None,
    model: str | None = None,
    dataset: str | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    fresh: bool = False,
    wait_s: float = 0.0,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Scores of a task without prefix and under each condition, two rows each: the best block, and
    the fixed one.

    target: the store, or the run without prefix (`run` names one of a store's). conditions: of
    those that the data set offers (none, correct, random, incorrect; default all; none is always
    there). prefix: the user's own, each text:... or file:CSV. Conditions that no run holds are
    extracted first, into runs named after the one without prefix; and that one too where the store
    has none, from `model` and `dataset` (NAME[:PATH][@SPLIT]). model: else where the run's model is
    now; data: where its data set is now. kinds: of the decoder; layers: to choose the blocks from.
    select, limit, seed, fresh and the task's own options are probe's. wait_s: how long to wait for
    conditions that other processes score, once all others are done.

    Images that any condition lacks are left out of all, and counted in n_skipped. Raises UsageError
    for another task or condition and where it is not clear which run to start from, ModelError
    where its model is another one now, KvtoolError where no image is left; where others still score
    conditions, UnfinishedError if this process scored some, else BusyError.
    """
    progress = progress or silent
    own = _check(task, kinds, select, {**options, "limit": limit, "seed": seed})
    store, named = select_store(target, run, create=None not in (model, dataset))
    base = find_base(store, task, kinds, named, model, dataset)
    opened = open_data(base, task, data, dataset)
    every = [make_condition(name, opened) for name in condition_names(opened, conditions, prefix)]
    base = base or extract_base(store, model, dataset, device, progress)
    plan = plan_blocks(base, kinds, layers, None)
    found = [
        condition_run(store, base, one, opened, kinds, model, device, progress) for one in every
    ]
    compared = ComparedRuns(base, plan.blocks[0][1], tuple(every), tuple(run for run, _ in found))
    reasons = compared.reasons([ref.id for ref in opened.images()], [why for _, why in found])
    if not compared.ids:
        raise KvtoolError(
            "prefix: expected an image that every condition has a text for, found none: "
            f"{reasons[0]}"
        )
    config = compared.config(task, kinds, select, seed, own, opened.truth_digest())
    key = result_key(config)
    if not fresh and (kept := store.kept(key, Result.from_json)) is not None:
        return kept
    alike = {
        "select": select,
        "limit": limit,
        "device": device,
        "data": data,
        "seed": seed,
        "fresh": fresh,
    }
    progress(0, "", sum(count_blocks(run, task, kinds, compared.layers) for run in compared.runs))
    where = torch_device(device)
    with sharing(wait_s) as share:
        best = compared.best(task, share, kinds=kinds, progress=progress, **alike, **options)
    work: Task = TASKS.load(task)(opened, sizes_of(base, compared.ids), where, **own)
    rows = ScoredCondition(work, where, select, seed).rows(compared, best)
    lines = [
        line
        for one in compared.runs
        for line in nonfinite_lines(one, [r for r in rows if r["run"] == one.name])
    ]
    result = Result(
        command="prefix",
        task=task,
        metric=work.metric,
        n=work.n,
        rows=rows,
        config=config | work.settings() | {"notes": [*work.skipped, *blind(best), *lines]},
        versions=versions(),
        n_skipped=len(reasons),
        skipped=reasons[:NAMED],
        items=compared.items(),
    )
    keep_result(store, key, result)
    return result


def _check(
    task: str, kinds: Sequence[Kind], select: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The task's options, before anything is extracted. Raises UsageError."""
    if task not in PROMPTABLE:
        raise UsageError(
            f"prefix: expected one of the tasks {', '.join(PROMPTABLE)}; found {task!r}"
        )
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    able = [kind for kind in DECODER if kind in TASKS.load(task).kinds]
    if not kinds or not set(kinds) <= set(able):
        raise UsageError(
            f"kinds: expected some of {', '.join(able)}, found {', '.join(kinds) or 'none'}; "
            f"a prefix reaches the decoder alone, and {task} takes no others"
        )
    return own_options(task, options)


@dataclass(frozen=True)
class ComparedRuns:
    """The run without prefix, the layers to choose from, the conditions, none first, and a run of
    each."""

    base: Run
    layers: tuple[int, ...]
    conditions: tuple[PrefixCondition, ...]
    runs: tuple[Run, ...]

    @cached_property
    def ids(self) -> set[str]:
        """Images that every run holds."""
        return set(self.base.ids).intersection(*(run.ids for run in self.runs))

    def reasons(self, listed: Sequence[str], why: Sequence[Mapping[str, str]]) -> list[str]:
        """A line for each image left out, of the data set's list up to the last image that the base
        run holds; why: of each condition, by id."""
        held = set(self.base.ids)
        last = max((position for position, image in enumerate(listed) if image in held), default=-1)
        lines = []
        for image in listed[: last + 1]:
            if image not in held:
                lines.append(f"image {image}: run {self.base.name} does not hold it")
            elif image not in self.ids:
                lines.append(next(of[image] for of in why if image in of))
        return lines

    def best(self, task: str, share: Share, **options: Any) -> list[Block]:
        """The best block of each run. Raises KvtoolError where none is defined, BusyError where
        others still score some; see Share.each."""
        blocks: dict[str, Block] = {}

        def score(run: Run) -> None:
            ids = None if self.ids == set(run.ids) else self.ids
            found = evaluate(
                run, task, ids=ids, layers=self.layers, share=share.part, **options
            ).best
            if found is None:
                raise KvtoolError(
                    f"run {run.name}: {task} is defined for none of its blocks; nothing can be "
                    "compared"
                )
            blocks[run.name] = Block(found["kind"], found["layer"], found["kv_head"])

        share.each(self.runs, score, "conditions")
        return [blocks[run.name] for run in self.runs]

    def items(self) -> list[Row]:
        """What stood before the images of each condition: the text, or the first image's, and how
        many there are."""
        items = []
        for condition, run in zip(self.conditions, self.runs, strict=True):
            texts = list(
                dict.fromkeys(sample.prefix for sample in run.samples if sample.id in self.ids)
            )
            items.append(
                {
                    "condition": condition.name,
                    "text": texts[0],
                    "n_texts": len(texts),
                    "run": run.name,
                }
            )
        return items

    def texts_hashes(self) -> list[str]:
        """Of each condition, a digest of what stood before its images and of the pictures its run
        was made of."""
        return [
            digest_texts(
                text
                for p in run.pictures
                if p.id in self.ids
                for text in (p.id, p.digest, p.prefix)
            )
            for run in self.runs
        ]

    def config(
        self,
        task: str,
        kinds: Sequence[Kind],
        select: str,
        seed: int,
        own: Mapping[str, Any],
        truth_hash: str,
    ) -> dict[str, Any]:
        """All that the numbers depend on; the cache's key is its hash."""
        return {
            "task": task,
            "algorithm": [ALGORITHMS["prefix"], ALGORITHMS[task]],
            **describe_run(self.base, self.ids),
            "truth_hash": truth_hash,
            "conditions": [
                {
                    "condition": condition.name,
                    "run": run.name,
                    "run_hash": run.config.hash,
                    "texts_hash": hash,
                }
                for condition, run, hash in zip(
                    self.conditions, self.runs, self.texts_hashes(), strict=True
                )
            ],
            "kinds": list(kinds),
            "layers": list(self.layers),
            "select": select,
            "seed": seed,
            "options": {
                name: value for name, value in own.items() if name not in ("seed", "backend")
            },
        }


@dataclass
class ScoredCondition:
    """Rows of conditions, all over the same units of a task; with select "split", those that chose
    no block."""

    work: Task
    device: torch.device
    select: str
    seed: int
    _held: tuple[tuple[str, Kind, int], Table, Array] | None = field(default=None, repr=False)

    def table(self, run: Run, block: Block) -> tuple[Table, Array]:
        """The summary's units (1, n, k) of a block, and how many values under them are not finite,
        (1,)."""
        key = (run.name, block.kind, block.layer)
        if self._held is None or self._held[0] != key:
            # All heads at once, as the probe has them: products of fewer might differ in the last bits.
            heads = range(run.config.heads_and_dim(block.kind)[0])
            layer = Layer(run, block.kind, block.layer, heads, self.device)
            measured = self.work.measure(layer)
            self._held = key, next(iter(self.work.tables(measured))), layer.nonfinite
        head = slice(block.kv_head, block.kv_head + 1)
        (_, table, nonfinite) = self._held
        units = table.units[head]
        strata = table.strata
        if self.select == "split":
            _, second = halves(units.shape[1], self.seed)
            units = units[:, second]
            strata = None if strata is None else strata[second]
        return table._replace(units=units, strata=strata), nonfinite[head]

    def rows(self, compared: ComparedRuns, best: Sequence[Block]) -> list[Row]:
        """Two rows a condition: its own best block, and the best block without prefix."""
        fixed = best[0]
        without, _ = self.table(compared.base, fixed)
        rows = []
        for condition, run, own in zip(compared.conditions, compared.runs, best, strict=True):
            for choice, block in (("best", own), ("fixed", fixed)):
                table, nonfinite = self.table(run, block)
                about = {"condition": condition.name, "choice": choice, **asdict(block)}
                (row,) = table_rows([about], table, self.seed, nonfinite)
                n = row.pop("n")
                less = difference(table, without, self.work.metric, self.seed, nonfinite)
                rows.append(row | less | {"n": n, "run": run.name})
        return rows


def blind(blocks: Sequence[Block]) -> list[str]:
    """A note where a block was chosen whose vectors are made before any attention."""
    if not any(block.kind == "value" and block.layer == 0 for block in blocks):
        return []
    return [
        "values of layer 0 do not see the text before them, and one was the best; --layers "
        "chooses among others"
    ]


def difference(
    ours: Table, without: Table, metric: str, seed: int, nonfinite: Array | None = None
) -> Row:
    """A block's score less another's over the same units, with the interval of the paired
    bootstrap: each resample draws units, and with a unit both blocks' share of it. None where our
    block's values are not finite."""
    k = ours.units.shape[-1]

    def scores(sums: Array) -> dict[str, Array]:
        return {
            "difference": ours.scores(sums[..., :k])[metric] - without.scores(sums[..., k:])[metric]
        }

    both = np.concatenate([ours.units, without.units], axis=-1)
    (row,) = table_rows([{}], Table({}, both, scores, ours.strata), seed, nonfinite)
    del row["n"]
    return row
