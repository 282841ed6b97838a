"""The `kvtool` command: its subcommands, the flags before them, and the one place that turns errors into exit codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from kvtool import __version__
from kvtool.cli import console, data, demo, extract, knockout, listing, probe, score, search, store
from kvtool.errors import KvtoolError

app = typer.Typer(
    name="kvtool",
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
app.command("knockout")(knockout.knockout)
app.add_typer(score.app, name="score")
app.command("search")(search.search)
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


def main() -> None:
    """Entry point. Expected errors are one line on standard error; unexpected ones keep their traceback."""
    try:
        app(auto_envvar_prefix="KVTOOL")
    except KvtoolError as error:
        if not console.log.handlers:
            console.configure(quiet=False, verbose=False, log_file=None)
        console.log.error("kvtool: %s", " ".join(str(error).split()))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.log.error("kvtool: interrupted; what was committed stays, the same command goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (head, less): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
