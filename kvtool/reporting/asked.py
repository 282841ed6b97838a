"""What the questions of a paired result were: its items have their ids alone."""

from __future__ import annotations

from kvtool.asking.paired.tasks import paired_task
from kvtool.datasets.base import DatasetBase
from kvtool.reporting.study import QuestionText
from kvtool.result import Result
from kvtool.store import Run
from kvtool.tasks.truth import sizes_of

PROBE_OPTIONS = ("folds", "c")
"""Options of the values' reading that the questions are checked against."""


def question_texts(result: Result, run: Run, dataset: DatasetBase) -> dict[str, QuestionText]:
    """Return the texts of a paired result's questions by id, made again as they were asked.

    Raises KvtoolError where the data set does not serve them any more.
    """
    task = paired_task(str(result.task))
    config = result.config
    options = {
        name: config[name] for name in PROBE_OPTIONS if name in task.options and name in config
    }
    n, seed = config.get("n"), config.get("seed", 0)
    paired = task.make(dataset, sizes_of(run), task.subset, n, seed, **options)
    return {
        question.id: QuestionText(question.text, question.choices) for question in paired.questions
    }
