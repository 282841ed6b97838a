"""The result every command gives: one versioned schema, four formats. Fields are documented in docs/output.md and only
ever added."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from kvtool.errors import CorruptError, KvtoolError, UsageError
from kvtool.store import schema
from kvtool.store.keeping import warn_once

SCHEMA = "kvtool.result/1"
FORMATS = ("table", "json", "jsonl", "csv")
LABELS = ("condition", "choice", "subset", "file", "alpha", "category", "object", "draw")
"""What a row may be about besides its block; a row with none of these, or `all`, is a summary."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a command found.

    command, task: e.g. "probe", "semantic-correspondence". metric: the primary one, by which best and per_layer
    choose. n: sampling units scored; n_skipped: those left out because the run or the data set lacks what they
    need, with up to ten reasons in `skipped`. rows: one per (kind, layer, kv_head) and label, each metric with
    <metric>_low and <metric>_high. best: the best row of the decoder's kinds (of all, where there are none).
    per_layer: the best row of each (kind, layer). baselines: projected and vision blocks of this and of other runs of
    the data set. config: all that the numbers depend on. unit: "fraction" or "percent", of the metrics. items: single
    records behind the rows, e.g. a question each, where a command keeps them.
    """

    command: str
    task: str | None
    metric: str
    n: int
    rows: list[Row]
    best: Row | None = None
    per_layer: list[Row] = field(default_factory=list)
    baselines: list[Row] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    n_skipped: int = 0
    skipped: list[str] = field(default_factory=list)
    unit: str = "fraction"
    items: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """JSON values only; a number that is not finite becomes null and is counted in n_undefined."""
        counter = [0]
        body = {one.name: _plain(getattr(self, one.name), counter) for one in fields(self)}
        return {"schema": SCHEMA, **body, "n_undefined": counter[0]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Result:
        """Inverse of to_json; fields that a later version added are left out. Raises KvtoolError for another
        schema, CorruptError where a field is none of its type."""
        if record.get("schema") != SCHEMA:
            raise KvtoolError(
                f"result: expected schema {SCHEMA}, found {record.get('schema')!r}; read it with a kvtool that knows it"
            )
        return schema.read(cls, record, "result")

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame. Raises KvtoolError where pandas is not installed."""
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise KvtoolError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame(self.rows)

    def flat_rows(self) -> Iterator[Row]:
        """The rows as lines of their own: each also says which task and run it belongs to."""
        about = {"task": self.task, "run": self.config.get("run")}
        for row in self.rows:
            yield {name: value for name, value in about.items() if value is not None} | _plain(row, [0])


def results_among(records: Iterable[Mapping[str, Any]]) -> Iterator[Result]:
    """The results of this schema among kept records, as answers are, too; one whose fields are of other types is left
    out, and a warning says so."""
    for record in records:
        if record.get("schema") == SCHEMA:
            try:
                yield Result.from_json(record)
            except CorruptError as error:
                warn_once(f"{error}; a kept result of {record.get('command')!r} is left out")


def emit(result: Result, format: str, stream: IO[str] | None = None) -> None:
    """Write a result to a stream (standard output): table, json (whole), jsonl or csv (its rows), full precision."""
    out = stream or sys.stdout
    if format == "table":
        from kvtool.reporting.terminal import print_result

        print_result(result, out)
    elif format == "json":
        out.write(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    elif format == "jsonl":
        out.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in result.flat_rows())
    elif format == "csv":
        rows = list(result.flat_rows())
        writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")


def is_summary(row: Row) -> bool:
    """Whether a row is about its whole block."""
    return all(row.get(label, "all") in ("all", None) for label in LABELS)


def metric_names(row: Row) -> list[str]:
    """The metrics of a row: the fields that have an interval."""
    return [name for name in row if f"{name}_low" in row]


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """The row with the highest metric; the first of equals; None where it is defined nowhere."""
    scored = [row for row in rows if row.get(metric) is not None and not math.isnan(row[metric])]
    return max(scored, key=lambda row: float(row[metric]), default=None)


def result_key(depends_on: Any) -> str:
    """Name of a kept result: a hash of everything it depends on, see kvtool.store.provenance."""
    text = json.dumps([SCHEMA, depends_on], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    from kvtool import __version__

    found = {"kvtool": __version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "torch", "faiss-cpu", "faiss-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plain(value: Any, undefined: list[int]) -> Any:
    """JSON values: tuples become lists, NumPy scalars Python's, and numbers that are not finite null, counted."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one, undefined) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, undefined) for one in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        undefined[0] += 1
        return None
    return _plain(value.item(), undefined) if hasattr(value, "item") else str(value)
