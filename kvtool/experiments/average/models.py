"""The models of which stores hold runs over the averaged tasks, and what each of them lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kvtool.datasets.identity import listed
from kvtool.display import shorten
from kvtool.errors import KvtoolError, UsageError
from kvtool.store import Run
from kvtool.tasks import TASKS, datasets_for
from kvtool.tasks.base import Select
from kvtool.tasks.blocks import DECODER
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
from kvtool.types import Kind


@dataclass(frozen=True)
class AveragedModel:
    """A model with a run for each task that it has one of, in the order of the tasks.

    Attributes:
        name: what rows call it.
        lacks: a line for each task without a run.
    """

    name: str
    identity: Identity
    runs: Mapping[str, Run]
    lacks: tuple[str, ...]


def check_request(tasks: Sequence[str], select: str) -> None:
    """Raise UsageError for an unknown task, for none, for one that no average takes (an error, or
    what is measured in a physical unit), and for an unknown way to select.
    """
    if select not in Select:
        raise UsageError(f"select: expected {' or '.join(Select)}, found {select!r}")
    if not tasks or len(set(tasks)) < len(tasks):
        raise UsageError(f"average: expected tasks, each once; found {', '.join(tasks) or 'none'}")
    for task in tasks:
        task_class = TASKS.load(task)
        if task_class.unit not in ("fraction", "percent") or not task_class.higher_is_better:
            better = "higher" if task_class.higher_is_better else "lower"
            raise UsageError(
                f"average: expected tasks scored in percent, higher being better; found {task}, in "
                f"{task_class.unit or 'no unit'}, {better} being better"
            )


def find_models(
    runs: Sequence[Run],
    models: Sequence[str] | None,
    tasks: Sequence[str],
    kinds: Sequence[Kind] | None,
) -> tuple[list[AveragedModel], dict[str, RunSource]]:
    """Return the models with some of the tasks, and what each task is scored on.

    Of several data sets that serve a task it is the one that most models have. Raises UsageError
    for an unknown model, KvtoolError where no model has any task.
    """
    # An average is of the decoder's blocks: a run of the vision tower alone has none.
    decoder_kinds = set(DECODER) & set(kinds or DECODER)

    def serves(run: Run, task: str) -> bool:
        """Tell whether a run has vectors of the decoder over a data set of the task."""
        return bool(decoder_kinds & set(run.config.kinds)) and task in tasks_of(run)

    groups = runs_by_model(runs, lambda run: any(serves(run, task) for task in tasks))
    if models is not None:
        groups = models_named(groups, models, "average")
    if not groups:
        names = dict.fromkeys(name for task in tasks for name in datasets_for(task))
        raise KvtoolError(
            f"average: expected runs of a language model, without prefix, over {', '.join(names)}; "
            f"found {listed([run.name for run in runs]) or 'none'}; extract them with values"
        )
    # Each task is scored on one data set for all models, or they could not be compared.
    sources = sources_of_tasks(groups, tasks, serves)
    averaged = []
    for identity, model_runs in groups.items():
        serving = {
            task: [run for run in model_runs if serves(run, task) and source_of(run) == source]
            for task, source in sources.items()
        }
        # Of several runs of a model the one with the most images serves.
        task_runs = {
            task: fullest_run(candidates) for task, candidates in serving.items() if candidates
        }
        name = _name(identity, list(groups))
        lacks = tuple(_missing(name, task, sources) for task in tasks if task not in task_runs)
        if task_runs:
            averaged.append(AveragedModel(name, identity, task_runs, lacks))
    return averaged, sources


def _name(identity: Identity, identities: Sequence[Identity]) -> str:
    """Return a model's name; with what else sets it apart where others have the name, too."""
    if sum(candidate.name == identity.name for candidate in identities) == 1:
        return identity.name
    system = f", system text {shorten(identity.system, 40)!r}" if identity.system else ""
    return f"{identity.name} ({identity.dtype}, {identity.view}, {identity.revision[:8]}{system})"


def _missing(model: str, task: str, sources: Mapping[str, RunSource]) -> str:
    """Say which run a model lacks for a task."""
    data = str(sources[task]) if task in sources else " or ".join(datasets_for(task))
    return without(model, task, f"no run over {data}: extract it")


def without(model: str, task: str, reason: str) -> str:
    """Say that a model's average is over the other tasks, and why."""
    return f"model {model}: {task} is no part of its average: {reason}"


def scored_models(
    models: Sequence[AveragedModel], failures: Mapping[tuple[str, str], str]
) -> list[AveragedModel]:
    """Return the models that have scores, with the runs of the tasks that could be scored.

    Args:
        models: The models.
        failures: Why a (model, task) could not be scored.

    Raises KvtoolError where none could.
    """
    scored = []
    for model in models:
        runs = {task: run for task, run in model.runs.items() if (model.name, task) not in failures}
        if runs:
            scored.append(replace(model, runs=runs))
    if not scored:
        (name, task), reason = next(iter(failures.items()))
        raise KvtoolError(
            f"average: expected a task that can be scored, found none; {name}, {task}: {reason}"
        )
    return scored
