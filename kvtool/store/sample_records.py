"""The samples of a part as its attributes hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvtool import schema
from kvtool.types import Sample


def samples_to_json(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the samples with what all of them share (often the prefix) written once."""
    records = [sample.to_json() for sample in samples]
    # Members equal in all samples are written once: most parts have one prefix and one size.
    shared = dict(records[0])
    for record in records:
        shared = {key: value for key, value in shared.items() if record[key] == value}
    return {"shared": shared, "each": [_without(record, shared) for record in records]}


def _without(record: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a record that are not among the shared ones."""
    return {key: value for key, value in record.items() if key not in shared}


def samples_from_json(record: dict[str, Any], location: str) -> tuple[Sample, ...]:
    """Return the inverse of samples_to_json. Raises CorruptError that begins with `location`."""
    return tuple(
        schema.read(Sample, {**record["shared"], **entry}, f"{location}, image")
        for entry in record["each"]
    )
