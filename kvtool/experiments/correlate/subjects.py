"""Which models several stores know enough of: a run of each segmentation task and runs of the
benchmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kvtool.asking.caches import CACHE
from kvtool.asking.choices import BENCHMARKS
from kvtool.datasets import DATASETS
from kvtool.errors import UsageError
from kvtool.metrics.choices import BLINK
from kvtool.store import Run, Store

SEGMENTATION = (
    "foreground-segmentation",
    "co-segmentation",
    "semantic-segmentation",
    "referring-expression",
)
"""The tasks of the paper's table 6."""


class RunSource(NamedTuple):
    """What a run is over."""

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


@dataclass(frozen=True)
class Subject:
    """A model, a run of each task, and the runs that hold the pictures of each benchmark."""

    identity: Identity
    segmented: Mapping[str, Run]
    asked: Mapping[str, Sequence[Run]]

    @property
    def runs(self) -> list[Run]:
        """All of them, each once."""
        every = [*self.segmented.values(), *(run for runs in self.asked.values() for run in runs)]
        return list({(run.store, run.name): run for run in every}.values())


def find_runs(stores: Sequence[Store], names: Sequence[str] | None) -> list[Run]:
    """All runs of all stores, or those with these names. Raises UsageError for a name that no store
    has."""
    places = {store.path.resolve(): store for store in stores}
    runs = [run for store in places.values() for run in store.readable_runs(lambda _: True)]
    if unknown := set(names or ()) - {run.name for run in runs}:
        listed = ", ".join(dict.fromkeys(run.name for run in runs)) or "none"
        raise UsageError(
            f"correlate: no run {', '.join(sorted(unknown))} in the stores; they have: {listed}"
        )
    return [run for run in runs if names is None or run.name in names]


def find_subjects(
    runs: Sequence[Run],
    models: Sequence[str] | None,
    tasks: Sequence[str],
    benchmarks: Sequence[str],
) -> tuple[list[Subject], dict[str, RunSource], list[str]]:
    """The models that have all it takes, what each task is scored on, and a line for each model
    that lacks something.

    Runs count that have no prefix and are of a language model. Of several data sets that serve a
    task it is the one that most models have. A model of which no run is over any of this is none of
    the request. Raises UsageError for an unknown name and for a model that would count twice.
    """
    groups: dict[Identity, list[Run]] = {}
    identities: dict[tuple[str, str, str], Identity] = {}
    for run in runs:
        config = run.config
        about = config.dataset in benchmarks or set(tasks) & set(
            DATASETS.load(config.dataset).about.tasks
        )
        if config.prefix == "none" and config.model.geometry.layers and about:
            identity = Identity(
                config.model.name, config.model.revision, config.model.dtype, config.view
            )
            # The same weights are one model, whatever it was called when a run was extracted.
            identity = identities.setdefault(
                (identity.revision, identity.dtype, identity.view), identity
            )
            groups.setdefault(identity, []).append(run)
    if models is not None:
        groups = _named(groups, models)
    sources = {task: source for task in tasks if (source := _commonest(task, groups)) is not None}
    subjects = []
    lacking = []
    for identity, of_model in groups.items():
        reasons = [
            *_lacks_tasks(of_model, tasks, sources),
            *_lacks_benchmarks(of_model, benchmarks),
        ]
        if reasons:
            lacking.append(f"model {identity.name}: {'; '.join(reasons)}")
            continue
        segmented = {task: _fullest(_segmented(of_model, task, sources[task])) for task in tasks}
        subjects.append(
            Subject(identity, segmented, {name: _askable(of_model, name) for name in benchmarks})
        )
    _check_once(subjects)
    return subjects, sources, lacking


def _named(groups: dict[Identity, list[Run]], models: Sequence[str]) -> dict[Identity, list[Run]]:
    """Those with these names, or folders."""
    wanted = {name: {name, str(Path(name).expanduser().resolve())} for name in models}
    known = {identity.name for identity in groups}
    if unknown := [name for name, ways in wanted.items() if not ways & known]:
        listed = ", ".join(sorted(known)) or "none"
        raise UsageError(
            f"correlate: no model {', '.join(unknown)} with a run of this; the stores have: "
            f"{listed}"
        )
    names = set().union(*wanted.values())
    return {identity: runs for identity, runs in groups.items() if identity.name in names}


def _check_once(subjects: Sequence[Subject]) -> None:
    seen: dict[tuple[str, str], Identity] = {}
    for subject in subjects:
        one = subject.identity
        other = seen.setdefault(subject.identity[:2], subject.identity)
        if one != other:
            raise UsageError(
                f"correlate: expected one set of runs of {one.name}, found some in {other.dtype}, "
                f"{other.view} view, "
                f"and some in {one.dtype}, {one.view} view; name those to take with --runs"
            )


def _segmented(runs: Sequence[Run], task: str, source: RunSource) -> list[Run]:
    return [run for run in runs if _serves(run, task) and _source(run) == source]


def _serves(run: Run, task: str) -> bool:
    return "value" in run.config.kinds and task in DATASETS.load(run.config.dataset).about.tasks


def _source(run: Run) -> RunSource:
    return RunSource(run.config.dataset, run.config.split)


def _commonest(task: str, groups: Mapping[Identity, Sequence[Run]]) -> RunSource | None:
    """What most models have a run over; the first in the order of the table of data sets where
    several do."""
    of_models = [{_source(run) for run in runs if _serves(run, task)} for runs in groups.values()]
    counts = Counter(source for sources in of_models for source in sources)
    order = DATASETS.names()
    return min(
        counts, key=lambda one: (-counts[one], order.index(one.dataset), one.split), default=None
    )


def _fullest(runs: Sequence[Run]) -> Run:
    """The run with most images, then most layers."""
    return min(runs, key=lambda run: (-len(run.ids), -len(run.config.layers), run.name))


def _askable(runs: Sequence[Run], benchmark: str) -> list[Run]:
    """Runs with whole caches of pictures whose answers are known, the one with most images
    first."""
    able = [
        run
        for run in runs
        if run.config.dataset == benchmark and _answers_known(run) and _whole(run)
    ]
    return sorted(able, key=lambda run: (-len(run.ids), run.name))


def _answers_known(run: Run) -> bool:
    return _source(run) != (BLINK, "test")


def _whole(run: Run) -> bool:
    return (
        set(CACHE) <= set(run.config.kinds)
        and len(run.config.layers) == run.config.model.geometry.layers
    )


def _lacks_tasks(
    runs: Sequence[Run], tasks: Sequence[str], sources: Mapping[str, RunSource]
) -> Iterator[str]:
    for task in tasks:
        if task not in sources:
            able = ", ".join(
                name for name in DATASETS.names() if task in DATASETS.load(name).about.tasks
            )
            yield f"{task}: no model has values over {able}: extract them"
        elif not _segmented(runs, task, sources[task]):
            yield f"{task}: no values over {sources[task]}, which most models have: extract them"


def _lacks_benchmarks(runs: Sequence[Run], benchmarks: Sequence[str]) -> Iterator[str]:
    for name in benchmarks:
        over = [run for run in runs if run.config.dataset == name]
        known = [run for run in over if _answers_known(run)]
        if not over:
            yield f"{name}: no run over it: extract it with --kinds key,value"
        elif not known:
            yield f"{name}: the answers of run {over[0].name}, {_source(over[0])}, are hidden: extract split val"
        elif not any(map(_whole, known)):
            config = known[0].config
            yield (
                f"{name}: run {known[0].name} holds {', '.join(config.kinds)} of "
                f"{len(config.layers)} of {config.model.geometry.layers} layers, and questions "
                "need whole caches: extract it with --kinds key,value and every layer"
            )


def check_names(tasks: Sequence[str], benchmarks: Sequence[str]) -> None:
    """Raises UsageError for a task or benchmark that is none of ours, and for none at all."""
    for what, names, known in (
        ("task", tasks, SEGMENTATION),
        ("benchmark", benchmarks, BENCHMARKS),
    ):
        if not names or not set(names) <= set(known):
            raise UsageError(
                f"correlate: expected {what}s of {', '.join(known)}; found "
                f"{', '.join(names) or 'none'}"
            )
