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

if TYPE_CHECKING:
    from rich.table import Table

    from kvtool.result import Result

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


def emit_result(result: Result, format: Format, plots: Sequence[Path] = ()) -> None:
    """Print a result on standard output, and draw it into files."""
    from kvtool.reporting.emit import emit

    emit(result, resolve(format))
    write_plots(result, plots)


def emit_rows(rows: Rows, format: Format, *, title: str = "") -> None:
    """Print plain rows (lists of runs, models, data sets).

    JSON keeps the values; tables and CSV join lists.
    """
    resolved, out = resolve(format), sys.stdout
    if not rows and resolved in ("table", "csv"):
        return
    if resolved == "table":
        print_table(rows, title)
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


RUN_COLUMN = "run"
"""The column of names that are copied into other commands, so that none is ever folded."""


def print_table(rows: Rows, title: str) -> None:
    """A table; where it is wider than the terminal its runs are numbers, and their names stand
    below, a line each.
    """
    from rich.console import Console

    console, table = Console(), _table(rows, title)
    has_runs = any(RUN_COLUMN in row for row in rows)
    # Measured as on a terminal of any width: on its own, every table would fit.
    if (
        not has_runs
        or console.measure(table, options=console.options.update(max_width=10_000)).maximum
        <= console.width
    ):
        console.print(table)
        return
    names = list(dict.fromkeys(cell(row.get(RUN_COLUMN)) for row in rows))
    numbers = {name: number for number, name in enumerate(names, 1)}
    console.print(
        _table([{**row, RUN_COLUMN: numbers[cell(row.get(RUN_COLUMN))]} for row in rows], title)
    )
    sys.stdout.writelines(f"{RUN_COLUMN} {number}: {name}\n" for name, number in numbers.items())


def _table(rows: Rows, title: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns:
        numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(row.get(name))) for name in columns))
    return table
