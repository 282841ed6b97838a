"""What a page is made of: the results that were chosen from stores, their runs, and pictures as
data URIs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvtool.pictures.thumbnails import Drawn
from kvtool.registry import EXPERIMENTS
from kvtool.result import Result, Row
from kvtool.store.kept import results_among
from kvtool.tasks import TASKS

ITEMS_SHOWN = 24
"""Questions with their pictures; the CSV has all."""
BlockKey = tuple[str, int, int]
"""(kind, layer, kv_head)."""


@dataclass(frozen=True)
class KeptResult:
    """A result, the store that keeps it, and how many others of the same command, run and task the
    page leaves out."""

    store: str
    result: Result
    others: int = 0

    @property
    def run(self) -> str | None:
        return self.result.config.get("run")


@dataclass(frozen=True)
class Study:
    """What the page shows.

    runs: Run.info() of every run of the stores, with `store`. pictures: data URIs by name, each
    held once. examples, sheets: of a result by its position in `kept`: predictions drawn for some
    blocks, and principal components. thumbnails: of an image of a run, by (store, run, image).
    notes: what could not be had, a line each.
    """

    title: str
    made: str
    kept: tuple[KeptResult, ...]
    runs: tuple[Row, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[int, Mapping[BlockKey, list[Drawn]]] = field(default_factory=dict)
    sheets: Mapping[int, list[Drawn]] = field(default_factory=dict)
    thumbnails: Mapping[tuple[str, str, str], Drawn] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def info(self, kept: KeptResult) -> Row | None:
        """Run.info() of a result's run, where the store still has it."""
        return next(
            (run for run in self.runs if (run["store"], run["run"]) == (kept.store, kept.run)), None
        )


def choose(found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[KeptResult]:
    """Of kept records, (store, record) from the newest to the oldest, the results to show, in a
    reader's order.

    Of several results of one command, run and task: the one of most blocks, of these the one of
    most sampling units, of these the one of most restarts, of these the newest. Records that are no
    results of this schema, e.g. answers, are passed over.
    """
    groups: dict[str, list[tuple[str, Result]]] = {}
    for store, record in found:
        for result in results_among([record]):
            groups.setdefault(_group(store, result), []).append((store, result))
    kept = []
    for group in groups.values():
        store, result = max(
            group, key=lambda pair: _thoroughness(pair[1])
        )  # the first, newest of equals
        kept.append(KeptResult(store, result, len(group) - 1))
    return sorted(kept, key=_order)


def _order(kept: KeptResult) -> tuple[Any, ...]:
    result = kept.result
    commands, tasks = EXPERIMENTS.names(), TASKS.names()
    place = commands.index(result.command) if result.command in commands else len(commands)
    task = tasks.index(result.task) if result.task in tasks else len(tasks)
    named = [str(result.config.get(name) or "") for name in ("model", "run")]
    return place, result.command, task, result.task or "", *named, kept.store


def _group(store: str, result: Result) -> str:
    asked = [
        result.config.get(name)
        for name in ("run", "dataset", "split", "prefix", "kind", "benchmark", "layers")
    ]
    return json.dumps([store, result.command, result.task, *asked], default=str)


def _thoroughness(result: Result) -> tuple[int, ...]:
    return _count_blocks(result), result.n, int(result.config.get("restarts") or 0)


def _count_blocks(result: Result) -> int:
    return len({(row.get("kind"), row.get("layer"), row.get("kv_head")) for row in result.rows})
