"""Flags of tasks: made of the options that tasks declare, so that a task is one file, and one of a
plug-in too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

from kvtool.cli.parsing import finite, given


def command_with(tasks: Callable[[], Sequence[str]]) -> type[TyperCommand]:
    """Return a command that also takes the options of some tasks; its function finds those that
    were given in `ctx.obj`.

    tasks: gives their names. It is called when the command's flags are needed: the help of all
    commands loads no task.
    """

    class CommandOfTasks(TyperCommand):
        @cached_property
        def task_flags(self) -> list[Any]:
            return flags_of(tasks())

        def get_params(self, ctx: Any) -> list[Any]:
            """Return the command's own flags, then those of its tasks, and --help."""
            *flags, help_flag = super().get_params(ctx)
            if ctx.resilient_parsing and not _asks_for_others(
                {name for flag in flags for name in flag.opts}
            ):
                return [*flags, help_flag]
            return [*flags, *self.task_flags, help_flag]

        def invoke(self, ctx: Any) -> Any:
            ctx.obj = given(
                **{flag.name: ctx.params.pop(flag.name, None) for flag in self.task_flags}
            )
            return super().invoke(ctx)

    return CommandOfTasks


SHORT = 4
"""An unfinished flag of so many characters may still become one of a task."""


def _asks_for_others(command_flags: set[str]) -> bool:
    """Return whether the line at Tab has a flag that is not among a command's own, nor the
    beginning of one: only then tasks, which load NumPy, are worth their time.
    """
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    *words, last = line.split() or [""]
    begins_own = len(last) > SHORT and any(flag.startswith(last) for flag in command_flags)
    flags = [*words, *([] if begins_own else [last])]
    return any(
        word.startswith("-") and word.partition("=")[0] not in command_flags for word in flags
    )


def flags_of(tasks: Sequence[str]) -> list[Any]:
    """Return a flag for each option of some tasks."""
    from kvtool.tasks.options import options_of_all

    # Typer makes flags of a function's parameters: this one has them all, and is never called.
    def holder() -> None: ...

    options = options_of_all(tasks)
    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(option))
        for name, option in options.items()
    ]
    holder.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    holder.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    single = typer.Typer(add_completion=False)
    single.command()(holder)
    return list(get_command(single).params)


def _annotation(option: Any) -> Any:
    """Return what Typer makes the flag of an option of."""
    name = f"--{option.name.replace('_', '-')}"
    default = "" if option.type is bool else f"; default {option.default}"
    settings: dict[str, Any] = {"help": f"{option.flag.help} ({', '.join(option.tasks)}{default})"}
    if option.type in (int, float):
        low, high = option.bounds
        settings |= {"min": low, "max": high, "callback": finite}
    return Annotated[_offered(option) | None, typer.Option(name, **settings)]


def _offered(option: Any) -> Any:
    """Return the type of a flag: the option's own, without the values that are not for users."""
    if get_origin(option.type) is not Literal:
        return option.type
    return Literal[
        tuple(value for value in get_args(option.type) if value not in option.flag.hidden)
    ]
