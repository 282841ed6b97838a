"""kvtool datasets: which data sets can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from kvtool.cli.options import FormatOption

EXAMPLES = ("kvtool datasets", "kvtool datasets spair71k")


def datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one, with its layout.")
    ] = None,
    format: FormatOption = "auto",
) -> None:
    """The data sets that `extract --dataset` takes, with their splits, prefix conditions and tasks
    for `probe`.
    """
    from dataclasses import asdict

    from kvtool.cli.output import emit_rows, resolve
    from kvtool.datasets import DATASETS, list_datasets
    from kvtool.tasks import tasks_over

    if name is not None:
        DATASETS.load(name)
    selected = [entry for entry in list_datasets() if name in (None, entry.name)]
    rows = [asdict(entry) | {"tasks": tasks_over(entry.name)} for entry in selected]
    if resolve(format) != "table":
        emit_rows(rows, format)
    elif name is None:
        columns = ("name", "title", "splits", "tasks", "conditions")
        emit_rows(
            [{column: row[column] for column in columns} for row in rows], format, title="data sets"
        )
    else:
        emit_rows([{"": key, name: value} for key, value in rows[0].items()], format)
