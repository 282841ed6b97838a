"""Results that a store keeps of a run as it is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kvtool.errors import CorruptError
from kvtool.result import SCHEMA, Result, is_summary
from kvtool.store import Run, open_store
from kvtool.store.keeping import warn_once


def results_among(records: Iterable[Mapping[str, Any]]) -> Iterator[Result]:
    """Yield the results of this schema among kept records, as answers are, too; one whose fields
    are of other types is left out, and a warning says so.
    """
    for record in records:
        if record.get("schema") == SCHEMA:
            try:
                yield Result.from_json(record)
            except CorruptError as error:
                warn_once(f"{error}; a kept result of {record.get('command')!r} is left out")


def kept_results(run: Run, command: str) -> Iterator[Result]:
    """Yield those of a command over all images that the run holds, the last first."""
    images = run.images_hash()
    for result in results_among(open_store(run.store).results()):
        config = result.config
        is_current = (
            config.get("run_hash") == run.config.hash and config.get("images_hash") == images
        )
        if is_current and result.command == command and "ids_hash" not in config:
            yield result


def extent(result: Result) -> tuple[int, int]:
    """Return how many blocks or heads a result is about, and how many units it scored.

    Of several results about the same, the one of the largest extent serves others: an analysis may
    have kept one of a few blocks or pictures later than the whole one.
    """
    return sum(map(is_summary, result.rows)), result.n
