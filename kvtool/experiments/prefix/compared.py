"""The runs of prefix conditions over the same images: their best blocks, and their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from kvtool.datasets.base import DatasetBase
from kvtool.digests import digest_texts
from kvtool.errors import KvtoolError
from kvtool.experiments.prefix.conditions import (
    PrefixCondition,
    condition_run,
)
from kvtool.layers import LayerChoice
from kvtool.progress import Progress
from kvtool.result import Row
from kvtool.store import Run, Store
from kvtool.store.provenance import ALGORITHMS, describe_run
from kvtool.store.shares import Share
from kvtool.tasks.blocks import plan_blocks
from kvtool.tasks.evaluation import algorithm_of, evaluate
from kvtool.types import Block, Kind


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
        """The images that every run holds."""
        return set(self.base.ids).intersection(*(run.ids for run in self.runs))

    def count_blocks(self, kinds: Sequence[Kind]) -> int:
        """Return how many blocks of these kinds a condition's best one is chosen from."""
        return sum(
            self.base.config.count_heads(kind, layer) for kind in kinds for layer in self.layers
        )

    def reasons(self, listed: Sequence[str], failures: Sequence[Mapping[str, str]]) -> list[str]:
        """Return a line for each image left out, up to the last image that the base run holds.

        Args:
            listed: the data set's images in their order.
            failures: each condition's reasons by image id.
        """
        base_ids = set(self.base.ids)
        # Images after the last one of the base run were not asked for.
        last = max(
            (position for position, image in enumerate(listed) if image in base_ids), default=-1
        )
        lines = []
        for image in listed[: last + 1]:
            if image not in base_ids:
                lines.append(f"image {image}: run {self.base.name} does not hold it")
            elif image not in self.ids:
                lines.append(next(reasons[image] for reasons in failures if image in reasons))
        return lines

    def best(self, task: str, share: Share, **options: Any) -> list[Block]:
        """Return the best block of each run.

        Raises KvtoolError where none is defined, BusyError where other processes still score some;
        see Share.each.
        """
        blocks: dict[str, Block] = {}

        def score(run: Run) -> None:
            """Probe one condition's run."""
            # All runs are scored on the images that every one of them holds.
            ids = None if self.ids == set(run.ids) else self.ids
            row = evaluate(run, task, ids=ids, layers=self.layers, share=share.part, **options).best
            if row is None:
                raise KvtoolError(
                    f"run {run.name}: {task} is defined for none of its blocks; nothing can be "
                    "compared"
                )
            blocks[run.name] = Block(row["kind"], row["layer"], row["kv_head"])

        share.each(self.runs, score, "conditions")
        return [blocks[run.name] for run in self.runs]

    def items(self) -> list[Row]:
        """Return what stood before the images of each condition: the text, or the first image's,
        and their number."""
        items = []
        for condition, run in zip(self.conditions, self.runs, strict=True):
            # A condition may have one text for all images or one for each.
            prefixes = (sample.prefix for sample in run.samples if sample.id in self.ids)
            texts = list(dict.fromkeys(prefixes))
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
        """Return a digest for each condition: what stood before its images, and the pictures of its
        run."""
        hashes = []
        for run in self.runs:
            pictures = [picture for picture in run.pictures if picture.id in self.ids]
            fields = ((picture.id, picture.digest, picture.prefix) for picture in pictures)
            # What the numbers depend on besides settings: pictures and texts, image by image.
            hashes.append(digest_texts(chain.from_iterable(fields)))
        return hashes

    def config(
        self,
        task: str,
        kinds: Sequence[Kind],
        select: str,
        seed: int,
        task_options: Mapping[str, Any],
        truth_hash: str,
    ) -> dict[str, Any]:
        """Return all that the numbers depend on; the result's key is its hash."""
        return {
            "task": task,
            "algorithm": [ALGORITHMS["prefix"], algorithm_of(task)],
            **describe_run(self.base, self.ids),
            "truth_hash": truth_hash,
            "conditions": [
                {
                    "condition": condition.name,
                    "run": run.name,
                    "run_hash": run.config.hash,
                    "texts_hash": texts_hash,
                }
                for condition, run, texts_hash in zip(
                    self.conditions, self.runs, self.texts_hashes(), strict=True
                )
            ],
            "kinds": list(kinds),
            "layers": list(self.layers),
            "select": select,
            "seed": seed,
            "options": {
                name: value
                for name, value in task_options.items()
                if name not in ("seed", "backend")
            },
        }


def compare_runs(
    store: Store,
    base: Run,
    layers: LayerChoice | None,
    conditions: Sequence[PrefixCondition],
    dataset: DatasetBase,
    kinds: Sequence[Kind],
    model: str | None,
    device: str,
    progress: Progress,
) -> tuple[ComparedRuns, list[str]]:
    """Return the runs of all conditions, extracted where they lack, and a line for each image left
    out.

    Raises KvtoolError where no image remains.
    """
    # Layers are resolved before anything is extracted.
    plan = plan_blocks(base, kinds, layers, None)
    runs = []
    failures = []
    for condition in conditions:
        run, reasons = condition_run(
            store, base, condition, dataset, kinds, model, device, progress
        )
        runs.append(run)
        failures.append(reasons)
    compared = ComparedRuns(base, plan.layers, tuple(conditions), tuple(runs))
    lines = compared.reasons([ref.id for ref in dataset.images()], failures)
    if not compared.ids:
        raise KvtoolError(
            f"prefix: expected an image that every condition has a text for, found none: {lines[0]}"
        )
    return compared, lines
