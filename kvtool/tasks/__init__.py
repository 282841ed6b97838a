"""Probes: how well every (kind, layer, kv_head) of a run does a perception task, from the store alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvtool.registry import Registry

if TYPE_CHECKING:
    from kvtool.result import Result
    from kvtool.store import Run, Store

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
)


def probe(target: Run | Store, task: str, **options: Any) -> Result:
    """Score every block of a run on a task; see kvtool.experiments.probe.run.probe for the options. Torch is imported here."""
    from kvtool.experiments.probe.run import probe as run_probe

    return run_probe(target, task, **options)


def tasks_of(run: Run) -> list[str]:
    """The tasks that a run's data set can serve, in the order of the table."""
    from kvtool.experiments.probe.run import tasks_of as of

    return of(run)


def options_of(task: str) -> set[str]:
    """Names of a task's own options, beside those of every probe."""
    from kvtool.experiments.probe.run import options_of as of

    return of(task)


def count_blocks(run: Run, task: str, **blocks: Any) -> int:
    """How many blocks a probe scores; blocks: kinds, layers, heads."""
    from kvtool.experiments.probe.run import count_blocks as count

    return count(run, task, **blocks)
