"""A result written to a stream, in the format that was asked for."""

from __future__ import annotations

import csv
import json
import sys
from typing import IO

from kvtool.errors import UsageError
from kvtool.result import FORMATS, Result


def emit(result: Result, format: str, stream: IO[str] | None = None) -> None:
    """Write a result to a stream, by default standard output, in full precision.

    Args:
        result: the result of a command.
        format: table, json (the whole result), jsonl or csv (its rows).
        stream: a text stream; None is standard output.

    Raises UsageError for another format.
    """
    out = stream or sys.stdout
    if format == "table":
        from kvtool.reporting.terminal import print_result

        print_result(result, out)
    elif format == "json":
        out.write(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    elif format == "jsonl":
        for row in result.flat_rows():
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    elif format == "csv":
        rows = list(result.flat_rows())
        columns = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(out, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
