"""Runs by what they are of, where a name is too long: `dataset=spair71k,model=demo`."""

from __future__ import annotations

from collections.abc import Sequence

from kvtool.display import shell_path
from kvtool.errors import UsageError
from kvtool.store.manifest import RunConfig
from kvtool.store.run import Run

FIELDS = ("dataset", "model", "split", "prefix", "view")


def ways_to_choose(store: str) -> str:
    """Return how one of the runs of a store is chosen, for errors; store: its address."""
    return f"--run, or --dataset NAME; kvtool store runs {shell_path(store)} lists them"


def matching(description: str, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that are as described.

    Args:
        description: `field=text`, or several joined by commas; of a model, the last part of its
            name will do. Fields are those of FIELDS.
        runs: the runs to choose from.

    Raises UsageError for another field and where one has no text.
    """
    texts = _parse(description)
    return [
        run
        for run in runs
        if all(text in _texts(run.config, field) for field, text in texts.items())
    ]


def _parse(description: str) -> dict[str, str]:
    """Return the text of each field of a description."""
    texts = {}
    for part in description.split(","):
        field, _, text = (word.strip() for word in part.partition("="))
        if field not in FIELDS or not text:
            raise UsageError(
                f"--run {description}: expected a name, or field=text of {', '.join(FIELDS)}, "
                f"joined by commas; found {part!r}"
            )
        texts[field] = text
    return texts


def _texts(config: RunConfig, field: str) -> set[str]:
    """Return the texts by which a run may be described in a field."""
    if field == "model":
        return {config.model.name, config.model.name.rstrip("/").rpartition("/")[2]}
    return {str(getattr(config, field))}
