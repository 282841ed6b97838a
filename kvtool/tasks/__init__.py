"""Perception tasks, a file each, and the table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvtool.datasets import DATASETS, tasks_named
from kvtool.registry import Registry

if TYPE_CHECKING:
    from kvtool.datasets.base import DatasetBase

SAYS = ("name", "metric", "unit", "higher_is_better", "kinds", "serves", "promptable")
"""What a task's class says of itself, see kvtool.tasks.base.Task."""

TASKS = Registry(
    "task",
    {
        "foreground-segmentation": "kvtool.tasks.foreground_segmentation:ForegroundSegmentation",
        "co-segmentation": "kvtool.tasks.co_segmentation:CoSegmentation",
        "semantic-segmentation": "kvtool.tasks.semantic_segmentation:SemanticSegmentation",
        "referring-expression": "kvtool.tasks.referring_expression:ReferringExpression",
        "semantic-correspondence": "kvtool.tasks.semantic_correspondence:SemanticCorrespondence",
        "temporal-correspondence": "kvtool.tasks.temporal_correspondence:TemporalCorrespondence",
    },
    "kvtool.tasks",
    SAYS,
)


def tasks_over(dataset: str) -> list[str]:
    """Names of the tasks that a data set serves: those that it lists, and those that name it."""
    listed = tasks_named(dataset)
    return [
        name for name, task in TASKS.usable().items() if name in listed or dataset in task.serves
    ]


def datasets_for(task: str) -> list[str]:
    """Names of the data sets that serve a task."""
    return [name for name in DATASETS.usable() if task in tasks_over(name)]


def lack_of(dataset: DatasetBase, task: str) -> str:
    """What a data set lacks to serve a task, in words; nothing where it serves it."""
    return "" if dataset.name in TASKS.load(task).serves else dataset.lacks(task)


def promptable_tasks() -> list[str]:
    """Names of the tasks that `kvtool prefix` compares under texts before the image."""
    return [name for name, task in TASKS.usable().items() if task.promptable]
