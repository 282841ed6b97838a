"""The probes of an average, one for each model and task, and why some could not be made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from kvtool.errors import DatasetError, KvtoolError
from kvtool.experiments.average.means import TaskScores
from kvtool.experiments.average.models import AveragedModel
from kvtool.tasks.evaluation import evaluate


@dataclass
class TaskProbes:
    """Scores of models on tasks.

    Attributes:
        images: The ids of the pictures that all models hold, by task.
        options: The options of each task.
        data: The places of data sets, by their names in the runs.
        settings: What all probes share.
        scores: What was scored, by the names of model and task.
        failures: Why the others could not be.
    """

    images: Mapping[str, Collection[str]]
    options: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, str]
    settings: Mapping[str, Any]
    scores: dict[tuple[str, str], TaskScores] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def score(self, model: AveragedModel, task: str, part: Any) -> None:
        """Probe a model on a task, or put down why that cannot be.

        Raises KvtoolError for what is no fault of the task: a wrong request, a damaged store, a
        lock.
        """
        run = model.runs[task]
        changes = {"data": self.data.get(run.config.dataset), **self.options[task]}
        # Without a choice of images the probe is the one that `kvtool probe` keeps.
        ids = None if self.images[task] == set(run.ids) else self.images[task]
        try:
            result = evaluate(run, task, ids=ids, share=part, **self.settings, **changes)
        # A task that cannot be scored is left out; damage and wrong requests end it all.
        except KvtoolError as error:
            if type(error) not in (KvtoolError, DatasetError):
                raise
            self.failures[model.name, task] = str(error)
        else:
            self.scores[model.name, task] = TaskScores(task, run, result)
