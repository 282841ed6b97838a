"""Perception tasks, a file each, and the table of them."""

from __future__ import annotations

from kvtool.registry import Registry

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
)
