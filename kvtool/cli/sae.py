"""kvtool sae train and kvtool sae check, beside `kvtool sae STORE` (kvtool.experiments.sae)."""

from __future__ import annotations

import typer

from kvtool.cli.store_group import StoreGroup

app = typer.Typer(cls=StoreGroup, no_args_is_help=True, rich_markup_mode=None)
