"""Everything a program reads: rows on standard output, as table, JSON, JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kvtool.cli import console
from kvtool.cli.options import Format
from kvtool.errors import PartialError

if TYPE_CHECKING:
    from kvtool.result import Result, RowChoice

Rows = Sequence[Mapping[str, Any]]


def resolve(format: Format, stream: IO[str] | None = None) -> Format:
    """`auto` is a table on a terminal and JSON lines in a pipe."""
    stream = stream or sys.stdout
    if format == "auto":
        return "table" if stream.isatty() else "jsonl"
    return format


def plot_files(plots: Sequence[Path] | None, name: str = "") -> list[Path]:
    """Return where --plot writes; with a name, of one result among several, it stands before the
    suffix: x.png, x-name.png. Raises UsageError for what cannot be written, before any work is
    done.
    """
    from kvtool.reporting.plots import check

    return [
        check(path.with_stem(f"{path.stem}-{name}") if name else path)
        for path in map(check, plots or ())
    ]


def write_plots(result: Result, paths: Sequence[Path]) -> None:
    """Draw a result into every file, after its data went to standard output."""
    from kvtool.reporting.plots import plot

    for path in paths:
        plot(result, path)
        console.log.info("plot: %s", path)


def emit_result(
    result: Result, format: Format, plots: Sequence[Path] = (), rows: RowChoice = "all"
) -> None:
    """Print a result or its summary rows on standard output, and draw it into files."""
    from kvtool.reporting.emit import emit

    emit(result, resolve(format), rows=rows)
    write_plots(result, plots)


def say_notes(result: Result, format: Format, what: str = "") -> None:
    """Say the notes of a result whose table has them itself, unless that table is printed."""
    if resolve(format) != "table":
        for note in result.config["notes"]:
            console.log.warning("%s%s", what, note)


def check_complete(result: Result, left_out: str, remainder: str) -> None:
    """Say what a result leaves out, a line each.

    Args:
        result: what a command found.
        left_out: what it leaves out, behind the number of these.
        remainder: what was measured all the same.

    Raises PartialError where it leaves out anything.
    """
    if not result.n_skipped:
        return
    for line in result.skipped:
        console.log.error("left out: %s", line)
    raise PartialError(f"{result.command}: {result.n_skipped} {left_out}, {remainder}")


def emit_rows(rows: Rows, format: Format, *, title: str = "") -> None:
    """Print plain rows (lists of runs, models, data sets).

    JSON keeps the values; tables and CSV join lists.
    """
    resolved, out = resolve(format), sys.stdout
    if not rows and resolved in ("table", "csv"):
        return
    if resolved == "table":
        from kvtool.reporting.listings import print_rows

        print_rows(rows, title, out)
    elif resolved == "jsonl":
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif resolved == "json":
        out.write(json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n")
    else:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)


def cell(value: Any) -> str:
    """Return the text of a value in a table or in CSV."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
