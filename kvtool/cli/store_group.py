"""A command over a store that has subcommands beside it, as `kvtool sae STORE` has `sae train`."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup

from kvtool.cli.run_flags import FIELDS

_VERBOSITY = re.compile(r"-[qv]+|--quiet|--verbose")


class StoreGroup(TyperGroup):
    """A group whose first word is a subcommand, or else a STORE.

    What reads the store is the group's callback, which Typer calls without a command. A store that
    has the name of a subcommand is given as a path, such as ./train.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "subcommand_metavar": "| COMMAND [ARGS]..."})

    def make_context(
        self, info_name: Any, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Parse a line as that of a subcommand, or as that of the command over a store."""
        first = next((word for word in args if not _VERBOSITY.fullmatch(word)), None)
        if first not in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        # Before a subcommand stand none of the flags of the command over a store.
        flags = [
            parameter
            for parameter in self.params
            if not parameter.expose_value and parameter.name not in FIELDS
        ]
        group = TyperGroup(name=self.name, commands=dict(self.commands), params=flags)
        group.context_settings = self.context_settings
        return group.make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the line of the command over a store, whose flags may follow STORE."""
        ctx.allow_interspersed_args = True
        ctx.allow_extra_args = False
        return super().parse_args(ctx, args)
