"""The models of which several stores know enough: a run of each segmentation task, and benchmark
runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from kvtool.asking.caches import cache_kinds, is_whole
from kvtool.asking.choices import BENCHMARKS
from kvtool.errors import UsageError
from kvtool.metrics.choices import BLINK
from kvtool.store import Run
from kvtool.tasks import datasets_for, tasks_over
from kvtool.tasks.by_model import (
    Identity,
    RunSource,
    fullest_run,
    models_named,
    runs_by_model,
    source_of,
    sources_of_tasks,
)
from kvtool.tasks.evaluation import tasks_of
from kvtool.tasks.sets import SEGMENTATION


@dataclass(frozen=True)
class ModelRuns:
    """A model, a run of each task, and the runs that hold the pictures of each benchmark."""

    identity: Identity
    segmented: Mapping[str, Run]
    benchmark_runs: Mapping[str, Sequence[Run]]

    @property
    def family(self) -> str:
        """The family of the model, such as llava_onevision."""
        return self.runs[0].config.model.family

    @property
    def labels(self) -> dict[str, str]:
        """What rows call the model."""
        identity = self.identity
        return {"model": identity.name, "revision": identity.revision, "family": self.family}

    @property
    def runs(self) -> list[Run]:
        """All runs of the model, each once."""
        runs = chain(self.segmented.values(), *self.benchmark_runs.values())
        return list({(run.store, run.name): run for run in runs}.values())


def find_subjects(
    runs: Sequence[Run],
    models: Sequence[str] | None,
    tasks: Sequence[str],
    benchmarks: Sequence[str],
) -> tuple[list[ModelRuns], dict[str, RunSource], list[str]]:
    """Return the complete models, what each task is scored on, and a line for each model that lacks
    something.

    Runs count that have no prefix and are of a language model. Of several data sets that serve a
    task it is the one that most models have. A model without a run over any of these is no part of
    the request. Raises UsageError for an unknown name and for a model that would count twice.
    """
    groups = runs_by_model(
        runs,
        lambda run: (
            run.config.dataset in benchmarks
            or bool(set(tasks) & set(tasks_over(run.config.dataset)))
        ),
    )
    if models is not None:
        groups = models_named(groups, models, "correlate")
    # One data set for each task, or scores of models could not be compared.
    sources = sources_of_tasks(groups, tasks, _serves)
    subjects = []
    incomplete = []
    for identity, model_runs in groups.items():
        # A model that lacks a part is named with all that it lacks, not with the first thing alone.
        reasons = [
            *_lacks_tasks(model_runs, tasks, sources),
            *_lacks_benchmarks(model_runs, benchmarks),
        ]
        if reasons:
            incomplete.append(f"model {identity.name}: {'; '.join(reasons)}")
            continue
        segmented = {
            task: fullest_run(_segmented(model_runs, task, sources[task])) for task in tasks
        }
        subjects.append(
            ModelRuns(
                identity, segmented, {name: _askable(model_runs, name) for name in benchmarks}
            )
        )
    _check_once(subjects)
    return subjects, sources, incomplete


def _check_once(subjects: Sequence[ModelRuns]) -> None:
    """Check that no model would count twice. Raises UsageError."""
    seen: dict[tuple[str, str], Identity] = {}
    for subject in subjects:
        identity = subject.identity
        # The same weights in two precisions or views are one model: they would lend it two points.
        first = seen.setdefault(subject.identity[:2], subject.identity)
        if identity != first:
            raise UsageError(
                f"correlate: expected one set of runs of {identity.name}, found some in "
                f"{first.settings}, and some in {identity.settings}; name those to take with --runs"
            )


def _segmented(runs: Sequence[Run], task: str, source: RunSource) -> list[Run]:
    """Return the runs over a source that serve a task."""
    return [run for run in runs if _serves(run, task) and source_of(run) == source]


def _serves(run: Run, task: str) -> bool:
    return "value" in run.config.kinds and task in tasks_of(run)


def _askable(runs: Sequence[Run], benchmark: str) -> list[Run]:
    """Return the runs with whole caches of pictures whose answers are known, the fullest first."""
    # Answers go on from caches: of a run without all keys and values none can.
    usable = [
        run
        for run in runs
        if run.config.dataset == benchmark and _answers_known(run) and _whole(run)
    ]
    return sorted(usable, key=lambda run: (-len(run.ids), run.name))


def _answers_known(run: Run) -> bool:
    return source_of(run) != (BLINK, "test")


def _whole(run: Run) -> bool:
    return is_whole(run.config)


def _lacks_tasks(
    runs: Sequence[Run], tasks: Sequence[str], sources: Mapping[str, RunSource]
) -> Iterator[str]:
    for task in tasks:
        if task not in sources:
            names = ", ".join(datasets_for(task))
            yield f"{task}: no model has values over {names}: extract them"
        elif not _segmented(runs, task, sources[task]):
            yield f"{task}: no values over {sources[task]}, which most models have: extract them"


def _lacks_benchmarks(runs: Sequence[Run], benchmarks: Sequence[str]) -> Iterator[str]:
    for name in benchmarks:
        over = [run for run in runs if run.config.dataset == name]
        answered = [run for run in over if _answers_known(run)]
        if not over:
            yield f"{name}: no run over it: extract it with --kinds key,value"
        elif not answered:
            yield (
                f"{name}: the answers of run {over[0].name}, {source_of(over[0])}, are hidden: "
                "extract split val"
            )
        elif not any(map(_whole, answered)):
            config = answered[0].config
            yield (
                f"{name}: run {answered[0].name} holds {', '.join(config.kinds)} of "
                f"{len(config.layers)} of {config.model.geometry.layers} layers, and questions "
                f"need whole caches: extract it with --kinds "
                f"{','.join(cache_kinds(config.model.geometry))} and every layer"
            )


def check_names(tasks: Sequence[str], benchmarks: Sequence[str]) -> None:
    """Check task and benchmark names. Raises UsageError for an unknown one, and for none at all."""
    for what, names, choices in (
        ("task", tasks, SEGMENTATION),
        ("benchmark", benchmarks, BENCHMARKS),
    ):
        if not names or not set(names) <= set(choices):
            raise UsageError(
                f"correlate: expected {what}s of {', '.join(choices)}; found "
                f"{', '.join(names) or 'none'}"
            )
