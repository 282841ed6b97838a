"""Parts of an average over tasks that terminal, figure and page show alike."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.result import Result, Row, best_row

SETS = ("segmentation", "correspondence")
"""Subsets that average several tasks, besides all."""


def models_of(result: Result) -> list[str]:
    """Return the names of the averaged models."""
    return [str(entry["name"]) for entry in result.config["models"]]


def tasks_of_subset(result: Result, subset: str, model: str) -> int:
    """Return how many tasks a model's average of a subset is over."""
    return next(
        (
            int(row["n_tasks"])
            for row in result.items
            if (row["subset"], row["model"]) == (subset, model)
        ),
        0,
    )


def averaged_subsets(result: Result) -> list[str]:
    """Return the subsets that there is something to average for: the sets with tasks in some model,
    and all, where it is no repetition of a single set.
    """
    subsets = [row["subset"] for row in result.items]
    sets = [name for name in SETS if name in subsets]
    return sets if len(sets) == 1 and not _has_others(result) else [*sets, "all"]


def _has_others(result: Result) -> bool:
    """Tell whether some task is in none of the sets."""
    counts = {row["subset"]: row["n_tasks"] for row in result.items}
    return bool(counts["all"] > sum(counts.get(name, 0) for name in SETS))


def rows_of(rows: Sequence[Row], model: str, subset: str) -> list[Row]:
    """Return the rows of a model and subset without the subset, as maps and curves take them."""
    return [
        {name: value for name, value in row.items() if name != "subset"}
        for row in rows
        if (row["model"], row["subset"]) == (model, subset)
    ]


def best_of_subset(result: Result, model: str, subset: str) -> Row | None:
    """Return the block with the best mean of a subset, of the kinds that the best of all is of."""
    rows = rows_of(result.rows, model, subset)
    decoder = [row for row in rows if row["kind"] in ("key", "value")]
    return best_row(decoder or rows, result.metric)


def complete_baselines(result: Result, model: str, subset: str) -> list[Row]:
    """Return the best layer of each kind and model among the baselines that all of the subset's
    tasks have; of others the mean would be over other tasks.
    """
    n_tasks = tasks_of_subset(result, subset, model)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in result.baselines:
        if (row["average_of"], row["subset"], row["n_tasks"]) == (model, subset, n_tasks):
            groups.setdefault((row["model"], row["kind"]), []).append(row)
    bests = (best_row(group, result.metric) for group in groups.values())
    return [best for best in bests if best is not None]


def baseline_title(row: Row) -> str:
    """Return the name of a baseline: its kind, with its model where that is another one."""
    layer = f", layer {row['layer']}" if row["kind"] == "vision" else ""
    owner = "" if row["model"] == row["average_of"] else f" of {row['model']}"
    return f"{row['kind']}{layer}{owner}"
