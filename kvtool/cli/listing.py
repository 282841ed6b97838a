"""kvtool models and kvtool datasets: what can be named."""

from __future__ import annotations

from kvtool.cli.options import Format, FormatOption


def models(format: FormatOption = Format.auto) -> None:
    """The model families that `extract --model` takes: any checkpoint of them, by hub id or folder."""
    from kvtool.cli.output import emit_rows
    from kvtool.models import describe_families

    emit_rows(describe_families(), format, title="models")


def datasets(format: FormatOption = Format.auto) -> None:
    """The data sets that `extract --dataset` takes, with their splits and the tasks that `probe` can do on them."""
    from kvtool.cli.output import emit_rows
    from kvtool.datasets import describe_datasets

    emit_rows(describe_datasets(), format, title="data sets")
