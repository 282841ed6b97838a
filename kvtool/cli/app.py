"""The `kvtool` command: its subcommands and the flags before them.

How commands end is in kvtool.cli.ending.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from kvtool._version import __version__
from kvtool.bounds import check_text
from kvtool.cli import console, ending
from kvtool.cli.commands import BuiltInCommands, is_usable, plugin_command
from kvtool.cli.ending import Stopped
from kvtool.cli.everywhere import (
    QuietOption,
    VerboseOption,
    WideOption,
    epilog,
    name_variables,
)
from kvtool.cli.signals import INTERRUPTED, PIPE_CLOSED
from kvtool.registry import EXPERIMENTS, add_plugin
from kvtool.screen import widen


class Commands(TyperGroup):
    """kvtool's commands and those of plug-ins.

    Hands Ctrl-C and a closed pipe to the net; Typer would end the process without a word.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        name_variables(self, ("KVTOOL",))
        self.commands = BuiltInCommands()  # type: ignore[assignment]  # nothing is added to them

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, those of plug-ins last."""
        names = super().list_commands(ctx)
        return [
            *names,
            *(name for name in EXPERIMENTS.names() if name not in names and is_usable(name)),
        ]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name.

        Entry points are only looked at for a name that is not kvtool's own.
        """
        command = super().get_command(ctx, cmd_name)
        if command is None and cmd_name in EXPERIMENTS.names():
            return plugin_command(cmd_name)
        return command

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the command line."""
        with _undisguised():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command and flush what it printed."""
        with _undisguised():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextmanager
def _undisguised() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(INTERRUPTED) from None
    except BrokenPipeError:
        raise Stopped(PIPE_CLOSED) from None


app = typer.Typer(
    name="kvtool",
    cls=Commands,
    help="Extract the image keys and values of multimodal language models once; "
    "probe them from disk.\n\n"
    "Data goes to standard output, everything else to standard error. Exit codes: 0 done or "
    "nothing to do, 1 error, "
    "2 usage, 3 busy (try later), 4 done in part. Every flag can be set as "
    "KVTOOL_<COMMAND>_<FLAG>.",
    epilog=epilog(
        "kvtool extract study.kv --model demo --dataset scenes@spair71k --limit 20",
        "kvtool probe study.kv semantic-correspondence",
        "kvtool report study.kv -o page.html",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _load_plugins(paths: list[Path] | None) -> list[Path] | None:
    for path in paths or []:
        add_plugin(path)
    return paths


def _version(requested: bool) -> None:
    if requested:
        print(f"kvtool {__version__}")
        raise typer.Exit


@app.callback()
def main_flags(
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    full_width: WideOption = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="Also write all notes to this file.")
    ] = None,
    plugin: Annotated[  # noqa: ARG001  handled by its callback
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE.py",
            callback=_load_plugins,
            is_eager=True,
            help="A file of Python that adds models, data sets, tasks or experiments. "
            "May be given several times.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001  handled by its callback
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the flags that stand before a command's name."""
    widen(full_width)
    console.configure(quiet=quiet, verbose=verbose, log_file=log_file)
    console.log.debug("kvtool %s: %s", __version__, shlex.join(sys.argv[1:]))


@cache
def command_line() -> Any:
    """Return the command with all below it."""
    return get_command(app)


def main() -> None:
    """Entry point: whatever happens is at most one line on standard error and an exit code, see
    kvtool.cli.ending.
    """
    sys.exit(ending.run(_call))


def _call() -> Any:
    for number, argument in enumerate(sys.argv[1:], 1):
        check_text(f"argument {number}", argument)
    return command_line()(prog_name="kvtool", auto_envvar_prefix="KVTOOL", standalone_mode=False)
