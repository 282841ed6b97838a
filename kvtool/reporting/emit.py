"""A result written to a stream, in the format that was asked for."""

from __future__ import annotations

import csv
import json
import sys
from typing import IO

from kvtool.errors import UsageError
from kvtool.result import FORMATS, Result, RowChoice


def emit(
    result: Result, format: str, stream: IO[str] | None = None, rows: RowChoice = "all"
) -> None:
    """Write a result to a stream, by default standard output, in full precision.

    Args:
        result: the result of a command.
        format: table, json (the whole result), jsonl or csv (its rows).
        stream: a text stream; None is standard output.
        rows: summary leaves out the rows about parts of what was scored; json has them all the
            same.

    Raises UsageError for another format.
    """
    out = stream or sys.stdout
    if rows == "summary" and format != "json":
        result = result.summarized()
    if format == "table":
        from kvtool.reporting.terminal import print_result

        print_result(result, out)
    elif format == "json":
        out.write(json.dumps(result.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
    elif format == "jsonl":
        for row in result.flat_rows():
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    elif format == "csv":
        lines = list(result.flat_rows())
        # Rows of one result may have other fields: a column is there if any row has it.
        columns = dict.fromkeys(name for line in lines for name in line)
        writer = csv.DictWriter(out, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    else:
        raise UsageError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
