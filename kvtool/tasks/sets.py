"""Sets of perception tasks that the paper averages over."""

from __future__ import annotations

SEGMENTATION = (
    "foreground-segmentation",
    "co-segmentation",
    "semantic-segmentation",
    "referring-expression",
)
"""The tasks of the paper's table 6 and of its figures 11 to 13."""
CORRESPONDENCE = ("semantic-correspondence", "temporal-correspondence")
"""Beside these, the tasks of its figure 2."""
TASK_SETS = {"segmentation": SEGMENTATION, "correspondence": CORRESPONDENCE}
