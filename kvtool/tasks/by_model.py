"""Runs of several stores, sorted by the model that they are of, and which of them serves a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kvtool.datasets import DATASETS
from kvtool.display import listing, shorten
from kvtool.errors import UsageError
from kvtool.store import Run, Store


class RunSource(NamedTuple):
    """The data set and split of a run."""

    dataset: str
    split: str

    def __str__(self) -> str:
        return f"{self.dataset}@{self.split}"


class Identity(NamedTuple):
    """What makes two runs those of one model, as it is asked and probed."""

    name: str
    revision: str
    dtype: str
    view: str
    system: str = ""

    @property
    def settings(self) -> str:
        """How it is run, in words."""
        system = f", system text {shorten(self.system, 40)!r}" if self.system else ""
        return f"{self.dtype}, {self.view} view{system}"


def find_runs(stores: Sequence[Store], names: Sequence[str] | None, command: str) -> list[Run]:
    """Return all runs of all stores, or those with these names. Raises UsageError for a name that
    no store has."""
    by_path = {store.path.resolve(): store for store in stores}
    runs = [run for store in by_path.values() for run in store.readable_runs(lambda _: True)]
    if unknown := set(names or ()) - {run.name for run in runs}:
        listed = listing(list(dict.fromkeys(run.name for run in runs)))
        raise UsageError(
            f"{command}: no run {', '.join(sorted(unknown))} in the stores; they have: {listed}"
        )
    return [run for run in runs if names is None or run.name in names]


def runs_by_model(runs: Sequence[Run], serves: Callable[[Run], bool]) -> dict[Identity, list[Run]]:
    """Group by model the runs that serve a purpose, of a language model and without prefix."""
    groups: dict[Identity, list[Run]] = {}
    identities: dict[tuple[str, ...], Identity] = {}
    for run in runs:
        config = run.config
        # Text before the images changes their vectors: such runs are no second run of the model.
        if config.prefix == "none" and config.model.geometry.layers and serves(run):
            identity = Identity(
                config.model.name,
                config.model.revision,
                config.model.dtype,
                config.view,
                config.system,
            )
            # The same weights are one model, whatever it was called when a run was extracted.
            identity = identities.setdefault(identity[1:], identity)
            groups.setdefault(identity, []).append(run)
    return groups


def models_named(
    groups: dict[Identity, list[Run]], models: Sequence[str], command: str
) -> dict[Identity, list[Run]]:
    """Return the models with these names or folders. Raises UsageError for a name without a run."""
    # A model can be named by its folder: relative and absolute paths are one name.
    aliases = {name: {name, str(Path(name).expanduser().resolve())} for name in models}
    identities = {identity.name for identity in groups}
    if unknown := [name for name, spellings in aliases.items() if not spellings & identities]:
        listed = listing(sorted(identities))
        raise UsageError(
            f"{command}: no model {', '.join(unknown)} with a run of this; the stores have: "
            f"{listed}"
        )
    names = set().union(*aliases.values())
    return {identity: runs for identity, runs in groups.items() if identity.name in names}


def source_of(run: Run) -> RunSource:
    """Return the data set and split of a run."""
    return RunSource(run.config.dataset, run.config.split)


def commonest_source(
    groups: Mapping[Identity, Sequence[Run]], serves: Callable[[Run], bool]
) -> RunSource | None:
    """Return the data set of which most models have a run that serves.

    Where several serve as many models, it is the first in the order of the table of data sets.
    """
    # A model counts once for a data set, however many runs over it there are.
    counts: Counter[RunSource] = Counter()
    for runs in groups.values():
        counts.update({source_of(run) for run in runs if serves(run)})
    # Ties are broken by names alone, so that the choice does not depend on the runs' order.
    order = DATASETS.names()
    return min(
        counts,
        key=lambda source: (-counts[source], order.index(source.dataset), source.split),
        default=None,
    )


def sources_of_tasks(
    groups: Mapping[Identity, Sequence[Run]],
    tasks: Sequence[str],
    serves: Callable[..., bool],
) -> dict[str, RunSource]:
    """Return the data set of each task that all models are scored on; of a task that no run serves
    there is none.

    serves: tells of a run and a task whether the run serves it.
    """
    sources = {task: commonest_source(groups, partial(serves, task=task)) for task in tasks}
    return {task: source for task, source in sources.items() if source is not None}


def fullest_run(runs: Sequence[Run]) -> Run:
    """Return the run with most images, then most layers."""
    return min(runs, key=lambda run: (-len(run.ids), -len(run.config.layers), run.name))
