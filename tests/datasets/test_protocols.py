"""Which data set has what the tasks and the questions ask for: each loader is tried against its
protocols.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from kvtool.datasets import DATASETS
from kvtool.datasets import protocols as p
from kvtool.datasets.base import DatasetBase
from kvtool.tasks import TASKS
from tests.support.trees import TREES, open_tree

TASK_PROTOCOLS: dict[str, Any] = {
    "foreground-segmentation": p.HasEpisodes,
    "co-segmentation": p.HasGroups,
    "semantic-segmentation": p.HasLabelMaps,
    "referring-expression": p.HasExpressions,
    "semantic-correspondence": p.HasPairs,
    "temporal-correspondence": p.HasVideos,
}
SERVICES: dict[Any, set[str]] = {
    p.HasQuestions: {"own", "pope", "mme", "blink", "cvbench"},
    p.HasCaptions: {"coco", "refcoco", "own"},
    p.HasConcepts: {"coco", "refcoco", "own", "pascal5i", "imagenet-s", "msrc", "bdd10k"},
}
"""What is served beside tasks, and by which data sets."""


def test_every_task_names_its_protocol() -> None:
    assert list(TASK_PROTOCOLS) == TASKS.names()
    for name, protocol in TASK_PROTOCOLS.items():
        parameter = inspect.signature(TASKS.load(name)).parameters["dataset"]
        assert parameter.annotation == protocol.__name__


@pytest.mark.parametrize("name", TREES)
def test_a_loader_has_what_its_tasks_call(tmp_path: Path, name: str) -> None:
    dataset = open_tree(name, TREES[name](tmp_path))
    served = {task for task, protocol in TASK_PROTOCOLS.items() if isinstance(dataset, protocol)}
    assert served == set(dataset.about.tasks)
    for protocol, names in SERVICES.items():
        service = protocol.__name__.removeprefix("Has").lower()
        assert isinstance(dataset, protocol) == (dataset.name in names)
        assert bool(dataset.lacks(service)) != (dataset.name in names)
    assert all(not dataset.lacks(task) for task in dataset.tasks)
    assert all(dataset.lacks(task) for task in set(TASK_PROTOCOLS) - served)


@pytest.mark.parametrize("protocol", [*TASK_PROTOCOLS.values(), *SERVICES])
def test_the_methods_of_a_loader_take_what_the_protocol_says(protocol: type) -> None:
    """Names and order of the parameters, by class: mypy checks the types where a loader is passed
    as a protocol.
    """
    methods = {
        name: value
        for name, value in vars(protocol).items()
        if inspect.isfunction(value) and name[0] != "_"
    }
    assert methods
    for name in DATASETS.names():
        loader = DATASETS.load(name)
        if not (
            inspect.isclass(loader)
            and issubclass(loader, DatasetBase)
            and all(hasattr(loader, a) for a in methods)
        ):
            continue
        for method, function in methods.items():
            needed = list(inspect.signature(function).parameters)
            assert (
                list(inspect.signature(getattr(loader, method)).parameters)[: len(needed)] == needed
            )
