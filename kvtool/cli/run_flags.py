"""The flags --dataset and --model, by which a run is chosen beside --run: every command that takes
--run on a store has them, unless a flag of that name means something else there.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.main import get_command

from kvtool.cli.completion import complete_data_set
from kvtool.errors import UsageError

FIELDS = ("dataset", "model")
"""Fields of a run's description (kvtool.store.descriptions) that have a flag."""
RunDataSetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        autocompletion=complete_data_set,
        help="The run over this data set, in place of --run.",
    ),
]
RunModelOption = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="The run of this model, in place of --run."),
]


def add_run_flags(command: Any) -> None:
    """Give the flags to a command that takes STORE and --run, and to those below it.

    They are no arguments of the command's function, which finds in `run` what they describe.
    """
    parameters = {word: parameter for parameter in command.params for word in parameter.opts}
    if {"store", "--run"} <= parameters.keys():
        run = parameters["--run"]
        run.callback = _described
        index = command.params.index(run) + 1
        command.params[index:index] = [
            flag for flag in _flags() if parameters.keys().isdisjoint(flag.opts)
        ]
    for subcommand in getattr(command, "commands", {}).values():
        add_run_flags(subcommand)


def _flags() -> list[Any]:
    """Return both flags. They are read before --run, whose callback looks at them."""

    # Typer makes flags of a function's parameters; this function is never called.
    def flags(dataset: RunDataSetOption = None, model: RunModelOption = None) -> None: ...

    single = typer.Typer(add_completion=False)
    single.command()(flags)
    parameters = list(get_command(single).params)
    for parameter in parameters:
        parameter.is_eager = True
        parameter.expose_value = False
        parameter.callback = _remember
    return parameters


def _remember(context: Any, parameter: Any, text: str | None) -> None:
    if text is not None:
        context.meta[f"{__name__}.{parameter.name}"] = text


def _described(context: Any, parameter: Any, run: str | None) -> str | None:  # noqa: ARG001
    """Return the run that --run names, or the description that --dataset and --model make.

    Raises UsageError where a name stands beside them.
    """
    texts = {field: context.meta.get(f"{__name__}.{field}") for field in FIELDS}
    parts = [f"{field}={text}" for field, text in texts.items() if text is not None]
    if not parts:
        return run
    if run is not None and "=" not in run:
        flags = " and ".join(f"--{part.partition('=')[0]}" for part in parts)
        raise UsageError(f"--run {run} names the run: expected no {flags} beside it")
    return ",".join([*parts, *([run] if run is not None else [])])
