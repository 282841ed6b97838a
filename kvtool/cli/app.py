"""The `kvtool` command: its subcommands, the flags before them, and the one place that turns errors into exit codes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from kvtool import __version__
from kvtool.cli import (
    console,
    correlate,
    data,
    demo,
    extract,
    knockout,
    listing,
    paired,
    prefix,
    probe,
    report,
    score,
    search,
    show,
    store,
    variance,
)
from kvtool.errors import KvtoolError

INTERRUPTED, TERMINATED, PIPE_CLOSED = (128 + one for one in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE))


class Stopped(Exception):  # noqa: N818  not an error of ours
    """The user or the reader of our output ended the command."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Commands(TyperGroup):
    """Hands Ctrl-C and a closed pipe to `main`; Typer would end the process without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise Stopped(INTERRUPTED) from None
        except BrokenPipeError:
            raise Stopped(PIPE_CLOSED) from None
        return done


app = typer.Typer(
    name="kvtool",
    cls=Commands,
    help="Extract the image keys and values of multimodal language models once; probe them from disk.\n\n"
    "Data goes to standard output, everything else to standard error. Exit codes: 0 done or nothing to do, 1 error, "
    "2 usage, 3 busy (try later), 4 done in part. Every flag can be set as KVTOOL_<COMMAND>_<FLAG>.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extract")(extract.extract)
app.command("probe")(probe.probe)
app.command("variance")(variance.variance)
app.command("knockout")(knockout.knockout)
app.command("paired")(paired.paired)
app.command("prefix")(prefix.prefix)
app.command("correlate")(correlate.correlate)
app.add_typer(score.app, name="score")
app.command("search")(search.search)
app.command("show")(show.show)
app.command("report")(report.report)
app.add_typer(store.app, name="store")
app.add_typer(data.app, name="data")
app.command("models")(listing.models)
app.command("datasets")(listing.datasets)
app.command("demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kvtool {__version__}")
        raise typer.Exit


@app.callback()
def main_flags(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More notes.")] = False,
    log_file: Annotated[Path | None, typer.Option("--log-file", help="Also write all notes to this file.")] = None,
    version: Annotated[  # noqa: ARG001  handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    console.configure(quiet=quiet, verbose=verbose, log_file=log_file)
    console.log.debug("kvtool %s: %s", __version__, shlex.join(sys.argv[1:]))


def main() -> None:
    """Entry point. Expected errors are one line on standard error; unexpected ones keep their traceback.

    SIGTERM, as schedulers send it, ends a command as Ctrl-C does: claims are released, nothing half written is kept.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        sys.exit(app(prog_name="kvtool", auto_envvar_prefix="KVTOOL", standalone_mode=False))
    except KvtoolError as error:
        _say_and_exit(str(error), error.exit_code)
    except typer.TyperException as error:
        _say_usage_and_exit(error)
    except typer.Abort:
        _say_and_exit("aborted: nothing was changed", KvtoolError.exit_code)
    except OSError as error:
        # A full disk under standard output, a log file that cannot be opened: the user's to solve, too.
        console.log.debug("traceback", exc_info=error)
        _say_and_exit(f"{error.filename or 'output'}: {error.strerror or error}", KvtoolError.exit_code)
    except Stopped as stop:
        if stop.exit_code == INTERRUPTED:
            _say_and_exit("interrupted; what was committed stays, the same command goes on from there", INTERRUPTED)
        _drop_output()
        sys.exit(stop.exit_code)


def _say_usage_and_exit(error: typer.TyperException) -> NoReturn:
    """What Typer refuses, as one line in place of its three; a group without a command still prints its help."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context is None:
        _say_and_exit(message, error.exit_code)
    if message == context.get_help():
        print(message, file=sys.stderr)
        sys.exit(error.exit_code)
    command = context.command_path
    where = command.partition(" ")[2]
    _say_and_exit(f"{where + ': ' * bool(where)}{message.rstrip('.')}: see {command} -h", error.exit_code)


def _say_and_exit(message: str, exit_code: int) -> NoReturn:
    if not console.log.handlers:
        console.configure(quiet=False, verbose=False, log_file=None)
    console.log.error("kvtool: %s", " ".join(message.split()))
    sys.exit(exit_code)


def _drop_output() -> None:
    """Send what is still buffered nowhere, instead of to the closed pipe when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
