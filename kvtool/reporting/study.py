"""What a page shows: the results that were chosen from stores, their runs, and pictures as data
URIs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvtool.pictures.thumbnails import Drawn
from kvtool.registry import EXPERIMENTS
from kvtool.reporting.cards import Card
from kvtool.reporting.mapped import MappedPicture
from kvtool.result import Result, Row
from kvtool.store.kept import results_among
from kvtool.tasks import TASKS
from kvtool.types import Block

ITEMS_SHOWN = 24
"""Questions with their pictures; the CSV has all."""
GROUPED_BY = (
    *("run", "dataset", "split", "prefix", "kind", "benchmark", "layers", "runs", "sae"),
    "each",
)
"""Settings by which results of one command are about different things, and all on the page."""


@dataclass(frozen=True)
class KeptResult:
    """A result, the store that keeps it, and the number of others that the page leaves out.

    The others are of the same command, run and task.
    """

    store: str
    result: Result
    n_duplicates: int = 0

    @property
    def run(self) -> str | None:
        """The name of the result's run."""
        return self.result.config.get("run")


@dataclass(frozen=True)
class Plate:
    """A large drawing about an image, and the image itself where it could be had."""

    drawing: Drawn
    image: Drawn | None = None


@dataclass(frozen=True)
class QuestionText:
    """What a question asks, and its options."""

    text: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """What the page shows.

    Args:
        title: its title.
        origin: when and by what it was written.
        kept: the results.
        runs: Run.info() of every run of the stores, with `store`.
        pictures: data URIs by name, each held once.
        examples: predictions drawn for some blocks, by the result's position in `kept`.
        plates: drawings of whole images (principal components, words), by the result's position.
        thumbnails: an image of a run, by (store, run, image).
        questions: what was asked, by the result's position and the question's id.
        cards: features over pictures, by the result's position.
        maps: pictures with vectors of a probe's best block, by the result's position.
        notes: a line for each thing that could not be had.
    """

    title: str
    origin: str
    kept: tuple[KeptResult, ...]
    runs: tuple[Row, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[int, Mapping[Block, list[Drawn]]] = field(default_factory=dict)
    plates: Mapping[int, list[Plate]] = field(default_factory=dict)
    thumbnails: Mapping[tuple[str, str, str], Drawn] = field(default_factory=dict)
    questions: Mapping[tuple[int, str], QuestionText] = field(default_factory=dict)
    cards: Mapping[int, list[Card]] = field(default_factory=dict)
    maps: Mapping[int, list[MappedPicture]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of_command(self, command: str) -> list[Result]:
        """Return the results of one command."""
        return [stored.result for stored in self.kept if stored.result.command == command]

    def info(self, stored: KeptResult) -> Row | None:
        """Return Run.info() of a result's run, where the store still has it."""
        return next(
            (run for run in self.runs if (run["store"], run["run"]) == (stored.store, stored.run)),
            None,
        )


def choose(records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[KeptResult]:
    """Return the results to show, in a reader's order, from (store, record), newest to oldest.

    Of several results of one command, run and task: the one of most blocks, of these the one of
    most sampling units, of these the one of most restarts, of these the newest. Records that are no
    results of this schema, e.g. answers, are passed over.
    """
    groups: dict[str, list[tuple[str, Result]]] = {}
    for store, record in records:
        for result in results_among([record]):
            groups.setdefault(_group(store, result), []).append((store, result))
    chosen_results = []
    for group in groups.values():
        # The first of equals, which is the newest.
        store, result = max(group, key=lambda pair: _thoroughness(pair[1]))
        chosen_results.append(KeptResult(store, result, len(group) - 1))
    return sorted(chosen_results, key=_order)


def _order(stored: KeptResult) -> tuple[Any, ...]:
    result = stored.result
    commands = EXPERIMENTS.names()
    tasks = TASKS.names()
    command_order = commands.index(result.command) if result.command in commands else len(commands)
    task = tasks.index(result.task) if result.task in tasks else len(tasks)
    names = [str(result.config.get(name) or "") for name in ("model", "run")]
    return command_order, result.command, task, result.task or "", *names, stored.store


def _group(store: str, result: Result) -> str:
    settings = [result.config.get(name) for name in GROUPED_BY]
    return json.dumps([store, result.command, result.task, *settings], default=str)


def _thoroughness(result: Result) -> tuple[int, ...]:
    return _count_blocks(result), result.n, int(result.config.get("restarts") or 0)


def _count_blocks(result: Result) -> int:
    return len({(row.get("kind"), row.get("layer"), row.get("kv_head")) for row in result.rows})
