"""Names of tasks that are short enough to stand above a column."""

from __future__ import annotations

_SHORT = {
    "foreground-segmentation": "foreground",
    "co-segmentation": "co-seg.",
    "semantic-segmentation": "semantic",
    "referring-expression": "referring",
    "semantic-correspondence": "semantic corr.",
    "temporal-correspondence": "temporal corr.",
}


def short_name(name: str) -> str:
    """Return the short name of a task; of whatever else, its name."""
    return _SHORT.get(name, name)
